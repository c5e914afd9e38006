"""The code of a grid drawn over its image, and the place that a click on the picture means."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dvae.explore.codes import Edits
from dvae.plotting import MARKED, to_images

__all__ = ["brushed", "draw_code", "enlarged", "larger", "place_at"]

# Length of the longer side at least, more than on a screen: a browser counts the place of a click
# in the picture's own pixels, and wrongly where it had to enlarge it.
_SIDE = 1024
# Pixels of a place from which on its border, and its number, are legible.
_LINED, _NUMBERED = 12, 56


def enlarged(pixels: Tensor, side: int) -> Image.Image:
    """Turn pixels into a picture, enlarged by a whole number.

    Args:
        pixels: Pixels in [0, 1], ``(C, H, W)``; what is not finite is black.
        side: Length of the longer side at least.
    """
    (picture,) = to_images(pixels.nan_to_num().unsqueeze(0))
    return larger(picture, side)


def larger(picture: Image.Image, side: int) -> Image.Image:
    """Enlarge a picture by a whole number.

    Args:
        picture: The picture.
        side: Length that the longer side is to have at least.
    """
    zoom = -(-side // max(picture.size))
    size = picture.width * zoom, picture.height * zoom
    found: Image.Image = picture.resize(size, Image.Resampling.NEAREST)
    return found


def draw_code(
    image: Tensor, mosaic: Tensor, code: Tensor, opacity: float, edits: Edits, position: int
) -> Image.Image:
    """Draw the code over the image; what is chosen has a frame, what was changed a coloured one.

    Args:
        image: Pixels in [0, 1], ``(C, H, W)``.
        mosaic: Swatches of the code, the same shape: see `Swatches.mosaic`.
        code: Integers ``(h, w)`` or ``(h, w, depth)``.
        opacity: How much of the mosaic is seen, from 0 (the image alone) to 1.
        edits: Positions that were changed, counted from 0 row by row.
        position: The chosen one.
    """
    picture = enlarged(image + opacity * (mosaic - image), _SIDE).convert("RGB")
    side = picture.width // code.shape[1]
    draw = ImageDraw.Draw(picture)
    changed, (chosen,) = _cells(code, edits), _cells(code, [position])
    if side >= _LINED:
        for x in range(side, picture.width, side):
            draw.line((x, 0, x, picture.height), fill="#808080")
        for y in range(side, picture.height, side):
            draw.line((0, y, picture.width, y), fill="#808080")
    if side >= _NUMBERED:
        font = ImageFont.load_default(side / (3 if code.dim() == 2 else 4.5))
        for row, column in np.ndindex(*code.shape[:2]):
            words = "\n".join(map(str, code[row, column].view(-1).tolist()))
            corner = (column * side + side / 16, row * side + side / 32)
            draw.text(corner, words, "white", font, stroke_width=side / 40, stroke_fill="black")
    wide = max(2, side // 16)
    for row, column in sorted(changed):
        _frame(draw, row, column, side, wide, MARKED)
    # Seen on light and on dark.
    _frame(draw, *chosen, side, 2 * wide, "black")
    _frame(draw, *chosen, side, wide, MARKED if chosen in changed else "white")
    return picture


def place_at(x: float, y: float, image: Tensor, code: Tensor) -> tuple[int, int]:
    """Find the place of the code under a pixel of `draw_code`.

    Args:
        x: Pixels from the left.
        y: Pixels from the top.
        image: The image that was drawn.
        code: Its code.

    Returns:
        Row and column; beyond the border the nearest.
    """
    height, width = code.shape[:2]
    side = -(-_SIDE // max(image.shape[1:])) * image.shape[2] / width
    row, column = (int(min(max(n // side, 0), size - 1)) for n, size in ((y, height), (x, width)))
    return row, column


def brushed(shape: tuple[int, ...], position: int, width: int) -> list[int]:
    """Find the places that a square brush covers.

    Args:
        shape: Shape of the code, ``(h, w)`` or ``(h, w, depth)``.
        position: Its middle, counted from 0 row by row; of several integers at a place the same
            one is painted everywhere.
        width: Places along a side, an odd number.

    Returns:
        Positions, in order.
    """
    row, column, *level = (int(at) for at in np.unravel_index(position, shape))
    rows, columns = (
        range(max(at - width // 2, 0), min(at + width // 2 + 1, size))
        for at, size in ((row, shape[0]), (column, shape[1]))
    )
    return [int(np.ravel_multi_index((r, c, *level), shape)) for r in rows for c in columns]


def _cells(code: Tensor, positions: Iterable[int]) -> set[tuple[int, int]]:
    places = (np.unravel_index(position, code.shape) for position in positions)
    return {(int(row), int(column)) for row, column, *_ in places}


def _frame(
    draw: ImageDraw.ImageDraw, row: int, column: int, side: int, width: int, colour: str
) -> None:
    left, top = column * side, row * side
    draw.rectangle((left, top, left + side, top + side), outline=colour, width=width)
