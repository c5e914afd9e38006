"""What `read_idx` reads, and what it says about a file it cannot use."""

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dvae.data import read_idx


def idx_bytes(array: Tensor) -> bytes:
    header = struct.pack(f">BBBB{array.dim()}I", 0, 0, 8, array.dim(), *array.shape)
    return header + bytes(array.flatten().tolist())


ARRAY = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
CONTENT = idx_bytes(ARRAY)
MD5 = hashlib.md5(CONTENT).hexdigest()


def refused(path: Path, content: bytes, md5: str | None = None) -> str:
    """Write a file that cannot be read, and return the one line that says so."""
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(path, md5)
    message = str(caught.value)
    assert str(path) in message and ("replace" in message or "put the right file" in message)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 4)])
@pytest.mark.parametrize("zipped", [True, False])
def test_write_then_read(tmp_path: Path, shape: tuple[int, ...], zipped: bool) -> None:
    array = torch.randint(0, 256, shape, dtype=torch.uint8)
    path = tmp_path / ("a.gz" if zipped else "a")
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    found = read_idx(path, hashlib.md5(idx_bytes(array)).hexdigest())
    assert found.dtype == torch.uint8 and found.shape == shape and torch.equal(found, array)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.gz is missing: put the file there"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("place", [20, len(CONTENT) - 1])
def test_the_checksum_catches_a_flipped_bit(tmp_path: Path, place: int) -> None:
    flipped = bytearray(CONTENT)
    flipped[place] ^= 1
    assert "MD5" in refused(tmp_path / "a", bytes(flipped), MD5)
    assert "MD5" in refused(tmp_path / "a.gz", gzip.compress(bytes(flipped)), MD5)


def test_damaged_gzip(tmp_path: Path) -> None:
    path, packed = tmp_path / "a.gz", gzip.compress(CONTENT)
    for length in range(1, len(packed)):
        refused(path, packed[:length], MD5)
    assert "cut short" in refused(path, packed[:-12])
    assert "not sound gzip" in refused(path, CONTENT)
    assert "not sound gzip" in refused(path, packed[:-8] + bytes(4) + packed[-4:])


def test_no_flipped_bit_of_a_gzip_file_passes_for_other_data(tmp_path: Path) -> None:
    path, packed, caught = tmp_path / "a.gz", gzip.compress(CONTENT), 0
    for bit in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            # A few bits (the time stamp, the padding of the last byte) carry no content.
            assert torch.equal(read_idx(path, MD5), ARRAY)
        except ValueError as error:
            assert str(path) in str(error)
            caught += 1
    assert caught > 4 * len(packed)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\x89PNG....", b"\0\0\x0d\1\0\0\0\1\0"])
def test_wrong_magic(tmp_path: Path, content: bytes) -> None:
    assert "not an IDX file" in refused(tmp_path / "a", content)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"\0", CONTENT[:9], b"\0\0\x08\0"])
def test_wrong_size(tmp_path: Path, content: bytes) -> None:
    assert "not the size its header states" in refused(tmp_path / "a", content)
