"""What the prior draws for a visitor: images, and a region of a code given the rest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvae.explore.codes import check_position
from dvae.models import DiscreteVAE
from dvae.priors import Prior
from dvae.priors.sequential import SequentialPrior

__all__ = ["COUNT", "Asked", "can_redraw", "in_raster_order", "redraw", "region", "samples"]

COUNT = 16
"""Images of a draw."""


@dataclass(frozen=True)
class Asked:
    """How a visitor wants codes drawn.

    Attributes:
        temperature: Divisor of the logits, above 0.
        label: Class, or -1 for none.
        guidance: Weight of classifier-free guidance, at least 0; without a class it has no meaning.
    """

    temperature: float = 1.0
    label: int = -1
    guidance: float = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of `DiscreteVAE.sample` and `DiscreteVAE.complete`."""
        if self.label < 0:
            return {"temperature": self.temperature}
        return {**vars(self)}


def samples(model: DiscreteVAE, asked: Asked) -> Tensor:
    """Draw images from the prior.

    Args:
        model: In evaluation mode.
        asked: How.

    Returns:
        Pixels in [0, 1], ``(COUNT, C, H, W)``.
    """
    return model.sample(COUNT, **asked.settings)


def can_redraw(model: DiscreteVAE) -> bool:
    """Tell whether the prior draws a part of a code given the rest.

    Args:
        model: Any model.
    """
    return type(model.prior).complete is not Prior.complete


def in_raster_order(model: DiscreteVAE) -> bool:
    """Tell whether the prior draws no region but all from some place on.

    Args:
        model: Any model.
    """
    return isinstance(model.prior, SequentialPrior)


def region(model: DiscreteVAE, first: int, last: int) -> Tensor:
    """Mark the places between two corners, or all from the first one on: see `in_raster_order`.

    Args:
        model: Whose code it is.
        first: Position, counted from 0 row by row.
        last: Another, which may come before.

    Returns:
        Booleans of `index_shape`.

    Raises:
        ValueError: There is no such position.
    """
    shape = model.index_shape
    for position in (first, last):
        check_position(shape, position)
    if in_raster_order(model):
        return (torch.arange(torch.Size(shape).numel()) >= first).view(shape)
    corners = zip(np.unravel_index(first, shape), np.unravel_index(last, shape), strict=True)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(int(min(pair)), int(max(pair)) + 1) for pair in corners)] = True
    return mask


def redraw(model: DiscreteVAE, code: Tensor, first: int, last: int, asked: Asked) -> Tensor:
    """Draw a region of a code anew, given the rest.

    Args:
        model: In evaluation mode.
        code: Integers of `index_shape`.
        first: Corner of the region, see `region`.
        last: The other corner.
        asked: How.

    Returns:
        Integers of `index_shape`.

    Raises:
        ValueError: There is no such position, or the code is of another size than the prior's.
    """
    if code.shape != model.index_shape:
        wanted, found = ("x".join(map(str, shape)) for shape in (model.index_shape, code.shape))
        raise ValueError(
            f"the prior draws codes of {wanted} and this image has {found}: upload it at the "
            "model's size"
        )
    return model.complete_code(code[None], region(model, first, last), **asked.settings)[0]
