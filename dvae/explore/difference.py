"""Where two pictures differ, and by how much."""

from dataclasses import dataclass

import torch
from PIL import ImageColor
from torch import Tensor

from dvae.plotting import COLOURS

__all__ = ["Difference", "difference"]

# Seen by all: blue and vermilion, see `dvae.plotting`.
_DARKER, _BRIGHTER = COLOURS[:2]


@dataclass(frozen=True, eq=False)
class Difference:
    """What changed between two pictures.

    Attributes:
        picture: Pixels in [0, 1], ``(3, H, W)``: white where nothing changed, vermilion where it
            became brighter and blue where it became darker, the stronger the more; the largest
            change has the full colour.
        largest: Largest change of a pixel's brightness, in [0, 1].
        share: Share of the pixels that changed by half a level of 255 or more.
    """

    picture: Tensor
    largest: float
    share: float


def difference(before: Tensor, after: Tensor) -> Difference:
    """Compare the brightness of two pictures; the mean of the channels.

    Args:
        before: Pixels in [0, 1], ``(C, H, W)``.
        after: The same shape.
    """
    change = (after - before).nan_to_num().mean(0)
    largest = change.abs().max().item()
    strength = (change / max(largest, 0.5 / 255)).unsqueeze(0)
    brighter, darker = (
        torch.tensor(ImageColor.getrgb(colour)).view(3, 1, 1) / 255
        for colour in (_BRIGHTER, _DARKER)
    )
    colour = torch.where(strength > 0, brighter, darker)
    share = (change.abs() >= 0.5 / 255).double().mean().item()
    return Difference(1 + strength.abs() * (colour - 1), largest, share)
