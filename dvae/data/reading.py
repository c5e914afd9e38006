"""One image file into bytes of one shape, upright and on paper, or the reason why not.

Whatever reads an image file in this package reads it here: training, tokens, the explorer.
"""

import importlib
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor

from dvae.doing import doing

__all__ = [
    "ImageReader",
    "Pixels",
    "common_bits",
    "look_at",
    "look_at_all",
    "missing_plugin",
    "size_of",
    "suffixes",
]

T = TypeVar("T")

# Pillow knows of them and shows nothing of them, or runs another program for it.
_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})
# What Pillow reads once a plugin is installed: the package, and the call that registers it.
_PLUGINS = {
    (".heic", ".heif", ".hif"): ("pillow-heif", "pillow_heif", "register_heif_opener"),
    (".avif",): ("pillow-avif-plugin", "pillow_avif", None),  # Pillow's own since 11.3
    (".jxl",): ("pillow-jxl-plugin", "pillow_jxl", None),
}
# Bits that cameras and scanners put into 16.
_DEPTHS = (8, 10, 12, 14, 16)
_BITS_PER_SAMPLE = 258  # of TIFF


@dataclass(frozen=True)
class Pixels:
    """What is a matter of taste in reading an image file.

    Args:
        background: Colour that a transparent image lies on: a name, or `#rrggbb`.
        bits: Bits that the grey values of 16-bit files have, 1 to 16: 12 where white is 4095. By
            default what the file says; where it says nothing, as many of 8, 10, 12, 14 or 16 as the
            largest value of all such files of the folder takes.
        skip_unreadable: Whether a folder leaves out, by name in the log, files that cannot be read;
            they are an error otherwise.

    Raises:
        ValueError: If a value is out of range.
    """

    background: str = "white"
    bits: int | None = None
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        try:
            ImageColor.getrgb(self.background)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                "pixels.background must be a colour such as white, black or #808080; "
                f"got {self.background!r}"
            ) from error
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise ValueError(f"pixels.bits must be in [1, 16]; got {self.bits}")


@dataclass(frozen=True)
class ImageReader:
    """Reads image files: as a viewer shows them, the shorter side resized, the longer one cut.

    The orientation that a camera wrote beside the pixels is followed. Palettes, CMYK and the like
    become RGB, transparent images lie on the background, grey values of more than 8 bits are
    scaled, and of an animation the first frame is read.

    Args:
        shape: Channels (1 for grey, 3 for colour), height and width of the result.
        pixels: What is a matter of taste.
        bits: Those of a 16-bit file that does not say how many it has, where `pixels` leaves it
            open; by default as many as its largest value takes.

    Raises:
        ValueError: Files have no images of so many channels.
    """

    shape: tuple[int, int, int]
    pixels: Pixels = field(default_factory=Pixels)
    bits: int | None = None

    def __post_init__(self) -> None:
        """Check the channels."""
        if self.shape[0] not in (1, 3):
            raise ValueError(f"an image file has 1 or 3 channels; the model wants {self.shape[0]}")

    def __call__(self, path: Path) -> Tensor:
        """Read a file.

        Args:
            path: The file.

        Returns:
            uint8 of `shape`.

        Raises:
            ValueError: The file cannot be read; the message names it and says why.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large, but not too large, does not matter
            found = self.attempt(path)
        if isinstance(found, str):
            raise ValueError(f"cannot read {path}: {found}")
        return found

    def attempt(self, path: Path) -> Tensor | str:
        """Read a file, or return why that fails.

        Args:
            path: The file.
        """
        try:
            with _open(path) as file:
                file.load()
                _turn(file)
                return self._pixels_of(file)
        except Exception as error:  # decoders raise all sorts of things at damaged files
            return _reason(error)

    def convert(self, image: Image.Image) -> Tensor:
        """Turn an image of Pillow's into pixels.

        Args:
            image: The image, which is left as it is.

        Returns:
            uint8 of `shape`.

        Raises:
            ValueError: It has pixels whose range is not known.
        """
        # A copy has the pixels alone, and not what the file says of them.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = image.copy()
            _turn(image)
        return self._pixels_of(image)

    def _pixels_of(self, image: Image.Image) -> Tensor:
        channels, height, width = self.shape
        image = self._flat(image).convert("L" if channels == 1 else "RGB")
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).view(height, width, channels)
        return pixels.permute(2, 0, 1).contiguous()

    def _flat(self, image: Image.Image) -> Image.Image:
        """Return an image of 8 bits without transparency."""
        if image.mode.startswith("I"):
            # Pillow itself would cut off all above 255.
            return self._eight_bits(image)
        if image.mode == "F":
            raise ValueError("floating-point pixels, whose range is not known")
        if image.mode in ("La", "RGBa"):  # colours that are multiplied by their opacity
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        if not image.has_transparency_data:
            return image.convert("RGB")
        paper = Image.new("RGBA", image.size, self.pixels.background)
        return Image.alpha_composite(paper, image.convert("RGBA"))

    def _eight_bits(self, image: Image.Image) -> Image.Image:
        values, declared = _grey_values(image)
        largest = int(values.max(initial=0))
        bits = self.pixels.bits or declared or self.bits or _depth(largest)
        if values.min(initial=0) < 0 or largest >= 2**bits:
            raise ValueError(f"pixels of more than {bits} bits")
        white = 2**bits - 1
        return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def look_at(path: Path) -> str | None:
    """Read the head of an image only; return why that fails, or None.

    Args:
        path: The file.
    """
    try:
        with _open(path):
            return None
    except Exception as error:
        return _reason(error)


def size_of(path: Path) -> tuple[int, int]:
    """Read the height and width of an image file from its head, upright as a viewer shows it.

    Args:
        path: The file.

    Raises:
        ValueError: The file cannot be read; the message names it and says why.
    """
    try:
        with warnings.catch_warnings(), _open(path) as file:
            warnings.simplefilter("ignore")
            lying = file.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return file.size if lying else file.size[::-1]
    except Exception as error:
        raise ValueError(f"cannot read {path}: {_reason(error)}") from error


def look_at_all(look: Callable[[Path], T], paths: Iterable[Path]) -> list[T]:
    """Read files in threads, without the warnings of Pillow.

    Args:
        look: What to do with each, such as `look_at`.
        paths: The files.

    Returns:
        What that gave, in the order of the files.
    """
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    with warnings.catch_warnings(), pool, doing("reading") as work:
        warnings.simplefilter("ignore")  # not for each file: filters belong to all threads
        return list(work.count(pool.map(look, paths), "images"))


def common_bits(paths: Iterable[Path]) -> int | None:
    """Count the bits that the grey values of the 16-bit files among some take.

    Args:
        paths: The files; those of 16 bits are read.

    Returns:
        8, 10, 12, 14 or 16; None where no file has 16 bits and does not say how many it uses.
    """
    return max((bits for bits in look_at_all(_bits_of, paths) if bits), default=None)


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of the files that can be read, in small letters, with their dots."""
    formats = {*_formats(), "MPO"}  # which is opened as JPEG
    return frozenset(s for s, f in Image.registered_extensions().items() if f in formats)


def missing_plugin(suffix: str) -> str | None:
    """Name the package that reads files of a suffix and is not installed; None for other suffixes.

    Args:
        suffix: Suffix in small letters, with its dot.
    """
    found = [package for known, (package, *_) in _PLUGINS.items() if suffix in known]
    return found[0] if found and suffix not in suffixes() else None


def _turn(image: Image.Image) -> None:
    """Bring an image upright, as the camera was held."""
    with suppress(Exception):  # a damaged note beside the pixels, which no viewer minds
        ImageOps.exif_transpose(image, in_place=True)


def _bits_of(path: Path) -> int | None:
    try:
        with _open(path) as file:
            if not file.mode.startswith("I"):
                return None
            values, declared = _grey_values(file)
            return None if declared else _depth(int(values.max(initial=0)))
    except Exception:  # reading it says so
        return None


@cache
def _formats() -> tuple[str, ...]:
    # Each process that reads registers them for itself.
    for _, module, register in _PLUGINS.values():
        try:
            plugin = importlib.import_module(module)
            if register is not None:
                getattr(plugin, register)()
        except (ImportError, AttributeError):
            continue
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NO_PICTURES)


def _open(path: Path) -> Image.Image:
    # Opening a pipe waits for someone who writes to it.
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    return Image.open(path, formats=_formats())


def _grey_values(image: Image.Image) -> tuple[npt.NDArray[np.int64], int | None]:
    """Return the grey values of more than 8 bits, and how many bits the file says they have."""
    (bits, *_) = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return np.asarray(image, dtype=np.int64), bits if 8 < bits < 16 else None


def _depth(largest: int) -> int:
    return next((bits for bits in _DEPTHS if largest < 2**bits), _DEPTHS[-1])


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split())[:100] or type(error).__name__
