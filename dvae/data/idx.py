"""The IDX file format of MNIST and its descendants."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["read_idx"]

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
