"""The IDX file format, and the folder of four such files in which MNIST and its heirs come."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dvae.data.images import Images, Split

__all__ = ["has_idx", "idx_folders", "load_idx", "read_idx"]

_FILES: Mapping[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

# A magic number is two zero bytes, the type of the elements and the number of dimensions.
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path | str, md5: str | None = None) -> Tensor:
    """Read an IDX file of unsigned bytes, gzipped (`.gz`) or plain.

    Args:
        path: The file.
        md5: MD5 of the unzipped content in hexadecimal; not checked if None.

    Returns:
        The array, uint8, of the shape that the file's header states.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not what it should be: not gzip, cut short, not IDX, of another size
            than its header states, or of another checksum.
    """
    path = Path(path)
    content = _content(path)
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes (it begins with "
            f"'{content[:4].hex()}' instead of '000008..'): put the right file there."
        )
    dims = content[3]
    start = 4 + 4 * dims
    shape = struct.unpack(f">{dims}I", content[4:start]) if len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path} has {len(content)} bytes, which is not the size its header states "
            f"(shape {shape}): replace it by a complete copy."
        )
    found = hashlib.md5(content, usedforsecurity=False).hexdigest() if md5 else None
    if found != md5:
        raise ValueError(
            f"{path} is not the file it should be (MD5 of the content is {found} instead of "
            f"{md5}): replace it by a fresh copy."
        )
    if len(content) == start:  # frombuffer refuses to read nothing
        return torch.empty(shape, dtype=torch.uint8)
    # bytearray: torch warns about a buffer that it must not write to.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def idx_folders(root: Path, name: str) -> tuple[Path, Path]:
    """List where the four files may lie under a folder.

    Args:
        root: The folder that somebody named.
        name: Name of the data set in torchvision.

    Returns:
        The folder itself, and the one that torchvision puts them in.
    """
    return root, root / name / "raw"


def has_idx(folder: Path) -> bool:
    """Whether a folder has all four files, gzipped or plain."""
    return all(_path(folder, name).is_file() for pair in _FILES.values() for name in pair)


def load_idx(folder: Path, split: Split, md5: Mapping[str, str] | None = None) -> Images:
    """Read the images and labels of one split.

    Args:
        folder: Where the four files are.
        split: Which two of them to read.
        md5: MD5 of the unzipped content by file name without `.gz`; not checked if None.

    Returns:
        Images of shape (N, 1, H, W) and labels of shape (N,).

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or is not what its name says.
    """
    image_file, label_file = _FILES[split]
    images = read_idx(_path(folder, image_file), md5[image_file] if md5 else None)
    labels = read_idx(_path(folder, label_file), md5[label_file] if md5 else None)
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise ValueError(
            f"{folder}: {image_file} and {label_file} do not belong together (shapes "
            f"{tuple(images.shape)} and {tuple(labels.shape)}): replace both by fresh copies."
        )
    return Images(images=images.unsqueeze(1), labels=labels.long())


def _path(folder: Path, name: str) -> Path:
    # Where there is neither, the gzipped name is the one to complain about.
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: put the file there, or give the folder that has it as data_dir."
        ) from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise ValueError(f"{path} is cut short: replace it by a complete copy.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not sound gzip ({error}): replace it by a copy.") from None
