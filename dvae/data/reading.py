"""One image file into one square of bytes, or the reason why not."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = ["look_at", "read_square", "try_to_read"]


def read_square(path: Path, size: int) -> Tensor:
    """Read an image in colour, resize its shorter side and keep the middle of the longer one.

    16-bit grey is scaled to 8 bits, palettes and CMYK become RGB, transparency is dropped, and of
    an animation the first frame is read.

    Args:
        path: The file.
        size: Height and width of the result.

    Returns:
        Shape (3, size, size), uint8.

    Raises:
        ValueError: The file cannot be read; the message names it and says why.
    """
    try:
        _refuse_special(path)
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")  # large, but not too large, is no matter
            image = ImageOps.fit(_colour(file), (size, size), Image.Resampling.BICUBIC)
    except Exception as error:  # decoders raise all sorts of things at damaged files
        raise ValueError(f"cannot read {path}: {_reason(error)}") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def try_to_read(path: Path, size: int) -> Tensor | str:
    """Read an image as `read_square`, or return why that fails.

    Args:
        path: The file.
        size: Height and width of the result.
    """
    try:
        return read_square(path, size)
    except ValueError as error:
        return str(error).removeprefix(f"cannot read {path}: ")


def look_at(path: Path) -> str | None:
    """Read the head of an image only; return why that fails, or None.

    Args:
        path: The file.
    """
    try:
        _refuse_special(path)
        with warnings.catch_warnings(), Image.open(path):
            warnings.simplefilter("ignore")
    except Exception as error:
        return _reason(error)
    return None


def _refuse_special(path: Path) -> None:
    # Opening a pipe waits for someone who writes to it.
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split())[:100] or type(error).__name__


def _colour(file: Image.Image) -> Image.Image:
    # The first frame of an animation is the one that is open.
    if file.mode.startswith("I"):
        # 16 bits of grey: Pillow itself would cut off all above 255.
        pixels = np.asarray(file, dtype=np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8)).convert("RGB")
    if file.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if file.mode == "P" and "transparency" in file.info:
        return file.convert("RGBA").convert("RGB")
    return file.convert("RGB")
