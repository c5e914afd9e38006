"""What else could stand at one place of a code, as pictures, the most probable first."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvae.bottlenecks.grid import GridBottleneck
from dvae.explore.codes import Encoded, check_position
from dvae.models import DiscreteVAE

__all__ = ["Alternatives", "alternatives", "window"]


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Categories of one place, and what the image becomes with each.

    Attributes:
        categories: Numbers of the categories, the most probable first; without a posterior the
            nearest to the present one by the distance of their vectors.
        probabilities: q of each at this place given the image, and of a residual code what stands
            at the levels before; ``None`` without a posterior.
        images: Pixels in [0, 1], ``(N, C, H, W)``: of a grid larger than the model's own, the part
            round the place that is as large as the images of training.
        box: Left, top, right and bottom of the place in the images, in pixels; ``None`` where the
            code is no grid.
    """

    categories: list[int]
    probabilities: list[float] | None
    images: Tensor
    box: tuple[int, int, int, int] | None


@torch.no_grad()
def alternatives(
    model: DiscreteVAE, encoded: Encoded, changed: Tensor, position: int, count: int
) -> Alternatives:
    """Put one category after another at a place of a code, and decode.

    Args:
        model: In evaluation mode.
        encoded: The image.
        changed: Its code with the changes made so far.
        position: The place, counted from 0 row by row.
        count: How many categories at most.

    Raises:
        ValueError: There is no such position.
    """
    check_position(changed.shape, position)
    at = tuple(int(n) for n in np.unravel_index(position, changed.shape))
    probabilities = None
    if model.bottleneck.has_posterior:
        probs = _logits(model, encoded.features, changed, at).softmax(-1)
        order = probs.argsort(descending=True, stable=True)[:count]
        probabilities = probs[order].tolist()
    else:
        order = _by_distance(model, int(changed[at]), at)[:count]
    categories = order.tolist()
    if changed.dim() > 1:
        rows, columns = window(changed.shape, at, model.index_shape)
        changed = changed[rows, columns]
        at = (at[0] - rows.start, at[1] - columns.start, *at[2:])
    codes = changed.repeat(len(categories), *[1] * changed.dim())
    codes.view(len(codes), -1)[:, int(np.ravel_multi_index(at, changed.shape))] = order.to(codes)
    images = model.decode(codes)
    box = None
    if changed.dim() > 1:
        side = images.shape[-1] // changed.shape[1]
        top, left = at[0] * side, at[1] * side
        box = left, top, left + side, top + side
    return Alternatives(categories, probabilities, images, box)


def window(
    shape: tuple[int, ...], at: tuple[int, ...], own: tuple[int, ...]
) -> tuple[slice, slice]:
    """Cut a part of the model's own size out of a grid, with a place in its middle if it can be.

    Args:
        shape: Shape of the code, two numbers or more.
        at: The place.
        own: Shape of the code of an image of the model's own size.

    Returns:
        Rows and columns; all there are where there are no more.
    """
    starts = [
        min(max(n - part // 2, 0), max(whole - part, 0))
        for n, part, whole in zip(at, own, shape, strict=True)
    ]
    rows, columns, *_ = (slice(n, n + part) for n, part in zip(starts, own, strict=True))
    return rows, columns


def _logits(model: DiscreteVAE, features: Tensor, code: Tensor, at: tuple[int, ...]) -> Tensor:
    if isinstance(model.bottleneck, GridBottleneck):
        # That place alone: of a large code book the logits of all would fill the memory.
        row, column, *level = at
        features = features[..., row : row + 1, column : column + 1]
        code = code[row : row + 1, column : column + 1]
        at = tuple(level)
    choices = model.bottleneck(features).choices(code[None])
    # Of one place: what is left of its number is that of a latent, or of an integer there.
    return torch.cat([logits.flatten(0, -2) for _, logits in choices])[at[0] if at else 0]


def _by_distance(model: DiscreteVAE, category: int, at: tuple[int, ...]) -> Tensor:
    if not isinstance(model.bottleneck, GridBottleneck):
        return torch.arange(model.num_codes)
    books = model.bottleneck.vectors()
    book = books[at[2] if len(at) > 2 and len(books) > 1 else 0]
    distance: Tensor = (book - book[category]).norm(dim=-1)
    return distance.argsort(stable=True)
