"""The code of an image, changed by hand, and what the model says about both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvae.models import DiscreteVAE

__all__ = [
    "Edits",
    "Encoded",
    "Look",
    "change",
    "changed",
    "check_category",
    "check_position",
    "encode",
    "look",
    "place_name",
    "read_table",
    "table_of",
    "whole",
]

Edits = Mapping[int, int]
"""Positions of a code, counted from 0 row by row, and the categories put there."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """An image and what the encoder makes of it.

    Attributes:
        image: Pixels in [0, 1], ``(C, H, W)``.
        code: Most probable code, integers of `index_shape`, or a grid of another size.
        features: Features that the bottleneck sees, ``(1, F, ...)``.
    """

    image: Tensor
    code: Tensor
    features: Tensor


@dataclass(frozen=True, eq=False)
class Look:
    """An image, its code, the changed code, and what both decode to.

    Attributes:
        original: Pixels in [0, 1], ``(C, H, W)``.
        reconstruction: Expected image of the unchanged code, the same shape.
        decoded: Expected image of the changed code, the same shape.
        code: Most probable code, integers of the model's `index_shape`; of a grid and an image of
            another size a grid of another size.
        changed: The same with the changes.
        log_px: log p(x | code) of the unchanged and of the changed code, nats per image.
        log_q: log q(code | x) of both, nats per image; ``None`` where there is no posterior.
    """

    original: Tensor
    reconstruction: Tensor
    decoded: Tensor
    code: Tensor
    changed: Tensor
    log_px: tuple[float, float]
    log_q: tuple[float, float] | None


@torch.no_grad()
def encode(model: DiscreteVAE, image: Tensor) -> Encoded:
    """Encode an image.

    Args:
        model: In evaluation mode.
        image: Pixels in [0, 1], ``(C, H, W)``, H and W as the network has them, or, where the code
            is a grid, multiples of its stride.

    Raises:
        ValueError: The image is of a shape that the network does not take.
    """
    features = model.encoder(model.images_of(image[None], any_size=True))
    return Encoded(image, model.bottleneck(features).mode()[0], features)


@torch.no_grad()
def look(model: DiscreteVAE, image: Tensor | Encoded, edits: Edits) -> Look:
    """Encode an image, change its code and decode both.

    Args:
        model: In evaluation mode.
        image: Image as `encode` takes it, or what that gave for it.
        edits: What to change.

    Raises:
        ValueError: The image is of a shape that the network does not take, or there is no such
            position or category.
    """
    encoded = image if isinstance(image, Encoded) else encode(model, image)
    image, code = encoded.image, encoded.code
    after = changed(model, code, edits)
    both = torch.stack([code, after])
    reconstruction, decoded = model.decode(both)
    # As in evaluation: a density weighs pixels with noise, here the same for every code.
    noise = model.evaluation.noise("pixels")
    target = model.likelihood.dequantize(image[None], noise)
    log_px = model.log_px(model.bottleneck.embed(both[:, None]), target)[:, 0]
    log_q = None
    if model.bottleneck.has_posterior:
        q = model.bottleneck(encoded.features)
        log_q = q.log_prob(both[:, None])[:, 0]
    return Look(
        image,
        reconstruction,
        decoded,
        code,
        after,
        _pair(log_px),
        None if log_q is None else _pair(log_q),
    )


def changed(model: DiscreteVAE, code: Tensor, edits: Edits) -> Tensor:
    """Make changes to a code.

    Args:
        model: Whose code it is.
        code: The unchanged code, integers; not touched.
        edits: What to change.

    Returns:
        The same shape.

    Raises:
        ValueError: There is no such position or category.
    """
    after = code.clone()
    for position, category in edits.items():
        _check(model, code.shape, position, category)
        after.view(-1)[position] = category
    return after


def change(model: DiscreteVAE, code: Tensor, edits: Edits, position: int, category: int) -> Edits:
    """Put a category at a position; at the unchanged one the change is taken back.

    Args:
        model: Whose code it is.
        code: The unchanged code, integers.
        edits: The changes so far; not touched.
        position: Counted from 0 row by row.
        category: In [0, K).

    Raises:
        ValueError: There is no such position or category.
    """
    _check(model, code.shape, position, category)
    others = {place: value for place, value in edits.items() if place != position}
    return others if int(code.view(-1)[position]) == category else {**others, position: category}


def check_position(shape: tuple[int, ...], position: int) -> None:
    """Refuse a position that the code does not have.

    Args:
        shape: Shape of the code.
        position: Counted from 0 row by row.

    Raises:
        ValueError: There is no such position.
    """
    size = math.prod(shape)
    if not 0 <= position < size:
        raise ValueError(f"the position must be in [0, {size}); got {position}")


def check_category(model: DiscreteVAE, name: str, category: int) -> None:
    """Refuse a category that the code does not have.

    Args:
        model: Whose code it is.
        name: What it is called in the message.
        category: Its number.

    Raises:
        ValueError: There is no such category.
    """
    if not 0 <= category < model.num_codes:
        raise ValueError(f"{name} must be in [0, {model.num_codes}); got {category}")


def place_name(model: DiscreteVAE, position: int, shape: tuple[int, ...] | None = None) -> str:
    """Name a position: a latent by its number, a place in a grid by row and column.

    Args:
        model: Whose code it is.
        position: Counted from 0 row by row.
        shape: Shape of the code; that of an image of the model's own size by default.
    """
    shape = model.index_shape if shape is None else shape
    if len(shape) == 1:
        return f"latent {position}"
    names = ("row", "column", "level")
    place = np.unravel_index(position, shape)
    return ", ".join(f"{name} {int(at)}" for name, at in zip(names, place, strict=False))


def table_of(code: Tensor) -> list[list[int]]:
    """Lay out a code: latents in one row, a grid as it is, the levels of a grid side by side.

    Args:
        code: Integers, ``(L,)``, ``(h, w)`` or ``(h, w, depth)``.

    Returns:
        Rows of equal length, which one after another are the positions.
    """
    table: list[list[int]] = code.reshape(code.shape[0] if code.dim() > 1 else 1, -1).tolist()
    return table


def read_table(model: DiscreteVAE, code: Tensor, table: Sequence[Sequence[Any]]) -> Edits:
    """Find the changes in a table that was edited by hand.

    Args:
        model: Whose code it is.
        code: The unchanged code, integers.
        table: As of `table_of`, with numbers or text.

    Returns:
        The changes.

    Raises:
        ValueError: The table is of another size, or a cell is no category.
    """
    before = table_of(code)
    if [len(row) for row in table] != [len(row) for row in before]:
        raise ValueError(f"the table must have {len(before)} rows of {len(before[0])} categories")
    edits: Edits = {}
    for position, cell in enumerate(cell for row in table for cell in row):
        category = whole(f"{place_name(model, position, code.shape)}: the category", cell)
        edits = change(model, code, edits, position, category)
    return edits


def whole(name: str, value: Any) -> int:
    """Take an integer from what a person entered.

    Args:
        name: What it is called in the message.
        value: A number, text, or nothing.

    Raises:
        ValueError: It is no integer.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise ValueError(f"{name} must be an integer; got {value!r}")
    return int(number)


def _check(model: DiscreteVAE, shape: tuple[int, ...], position: int, category: int) -> None:
    check_position(shape, position)
    check_category(model, f"{place_name(model, position, shape)}: the category", category)


def _pair(values: Tensor) -> tuple[float, float]:
    unchanged, changed = values.tolist()
    return unchanged, changed
