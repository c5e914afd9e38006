"""The format of a file of compressed images: a header, a checksum for each block, the bits."""

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["BitFile"]

# Magic, version, whether lossless, channels, height, width, images, blocks, initial words, weights.
_HEAD = struct.Struct("<4sBB3H3I32s")
_MAGIC, _VERSION = b"dvae", 1


@dataclass(frozen=True, eq=False)
class BitFile:
    """Content of a file; what is said of it when it is read was checked against its length only.

    Attributes:
        lossless: Whether it holds the images themselves, or codes of them.
        shape: Channels, height and width of an image.
        count: Number of images, in the order in which they were given.
        initial: Words of 32 bits that the stack began with; they are part of the file.
        weights: SHA-256 of the weights of the model, 32 bytes.
        sums: CRC-32 of what each block decodes to.
        words: The stack, its bottom first.
    """

    lossless: bool
    shape: tuple[int, int, int]
    count: int
    initial: int
    weights: bytes
    sums: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint32]

    def to_bytes(self) -> bytes:
        """Write the file; numbers are little-endian."""
        sizes = (*self.shape, self.count, len(self.sums), self.initial)
        head = _HEAD.pack(_MAGIC, _VERSION, self.lossless, *sizes, self.weights)
        return head + self.sums.astype("<u4").tobytes() + self.words.astype("<u4").tobytes()

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a file, which takes no more memory than it has itself.

        Args:
            data: Content of the file.

        Raises:
            ValueError: It is no such file, of another version, or cut short.
        """
        if data[:4] != _MAGIC:
            raise ValueError("this is no file of compressed images")
        if len(data) < _HEAD.size:
            raise ValueError("the file is cut short: it ends within its header")
        _, version, kind, *sizes, weights = _HEAD.unpack_from(data)
        channels, height, width, count, blocks, initial = sizes
        if version != _VERSION or kind > 1:
            raise ValueError(f"the file must be of format {_VERSION}; got {version}, kind {kind}")
        rest = len(data) - _HEAD.size - 4 * blocks
        if rest % 4 or rest < 4 * max(1, initial):
            raise ValueError(f"the file is cut short: it says that it has {count} images")
        words = np.frombuffer(data, "<u4", offset=_HEAD.size).astype(np.uint32)
        if not words[-1]:
            raise ValueError("the file is damaged: it ends in zeros")
        shape, sums, words = (channels, height, width), words[:blocks], words[blocks:]
        return cls(bool(kind), shape, count, initial, weights, sums, words)

    def bits_per_dim(self) -> float:
        """Return the bits of the whole file over the numbers of all images."""
        size = _HEAD.size + 4 * (len(self.sums) + len(self.words))
        return 8 * size / max(1, self.count * int(np.prod(self.shape)))
