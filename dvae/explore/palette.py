"""All codes of a code book on one sheet to choose from."""

from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dvae.explore.canvas import enlarged
from dvae.explore.swatches import Swatches
from dvae.plotting import MARKED

__all__ = ["LARGEST", "Palette", "make_palette"]

LARGEST = 1024
"""Codes that a sheet has room for."""

_COLUMNS = 24
# Pixels of a swatch and of its field along a side: more than on a screen, as in `canvas`.
_SWATCH, _FIELD = 40, 48


@dataclass(frozen=True, eq=False)
class Palette:
    """Swatches of all codes, the darkest first.

    Attributes:
        categories: Numbers of the codes in that order.
        swatches: Pixels in [0, 1], ``(K, C, s, s)``, in that order.
    """

    categories: list[int]
    swatches: Tensor

    def draw(self, brush: int) -> Image.Image:
        """Draw the sheet, with a frame round one code.

        Args:
            brush: The code.
        """
        rows = -(-len(self.categories) // _COLUMNS)
        sheet = Image.new("RGB", (_COLUMNS * _FIELD, rows * _FIELD), "white")
        draw = ImageDraw.Draw(sheet)
        for n, (category, swatch) in enumerate(zip(self.categories, self.swatches, strict=True)):
            x, y = n % _COLUMNS * _FIELD, n // _COLUMNS * _FIELD
            frame = (x + 1, y + 1, x + _FIELD - 2, y + _FIELD - 2)
            draw.rectangle(frame, fill=MARKED if category == brush else "#cccccc")
            picture = enlarged(swatch, _SWATCH).resize((_SWATCH, _SWATCH), 0)
            inset = (_FIELD - _SWATCH) // 2
            sheet.paste(picture, (x + inset, y + inset))
        return sheet

    def at(self, x: float, y: float) -> int:
        """Find the code under a pixel of the sheet.

        Args:
            x: Pixels from the left.
            y: Pixels from the top.

        Raises:
            ValueError: There is none.
        """
        n = int(y) // _FIELD * _COLUMNS + min(int(x) // _FIELD, _COLUMNS - 1)
        if not 0 <= n < len(self.categories):
            raise ValueError("there is no code at this place of the palette")
        return self.categories[n]


def make_palette(swatches: Swatches, code: Tensor, level: int, num_codes: int) -> Palette:
    """Make the palette of one place.

    Args:
        swatches: Swatches of the model.
        code: What stands at the place, an integer ``()``, or several ``(depth,)``.
        level: Which of the integers is to be chosen.
        num_codes: K.

    Raises:
        ValueError: There are too many codes.
    """
    if num_codes > LARGEST:
        raise ValueError(
            f"a palette has room for {LARGEST} codes and the model has {num_codes}: type the number"
        )
    codes = code.reshape(1, -1).repeat(num_codes, 1)
    codes[:, level] = torch.arange(num_codes)
    found = swatches(codes)
    order = found.flatten(1).mean(1).argsort(stable=True)
    return Palette(order.tolist(), found[order])
