"""Images of any size that a network divides: whole where they are small, else in tiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from dvae.bottlenecks.base import Bottleneck
from dvae.bottlenecks.grid import GridBottleneck

__all__ = ["Tiling"]

# Pixels of a tile along an axis, where the network was not trained on larger images, and of the
# margin at its inner edges.
_TILE, _MARGIN = 512, 64

Window = tuple[int, int]
"""Start and end along one axis, in positions of the code."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into overlapping tiles, so that memory depends on a tile alone.

    Norms and attention of a network see one tile at a time; of a network without them, whose
    positions see no farther than half the margin, tiles give what the whole image gives.

    Attributes:
        stride: Pixels of a position of the code along an axis.
        tile: Positions of a tile along an axis, more than twice the margin.
        margin: Positions by which two tiles reach into one another, each.
    """

    stride: int
    tile: int
    margin: int

    @classmethod
    def of(cls, image_shape: tuple[int, ...], bottleneck: Bottleneck) -> "Tiling | None":
        """Return how a model's images are cut; ``None`` where the code is not a grid.

        Args:
            image_shape: Channels, height and width that the network was built for.
            bottleneck: Bottleneck of the model.
        """
        grid = bottleneck.grid if isinstance(bottleneck, GridBottleneck) else ()
        if len(grid) != 2:
            return None
        stride = image_shape[1] // grid[0]
        return cls(stride, max(-(-_TILE // stride), *grid), -(-_MARGIN // stride))

    def __str__(self) -> str:
        return f"(B, C, H, W) with H and W multiples of {self.stride}"

    def divides(self, image: Tensor, channels: int) -> bool:
        """Tell whether images are of a shape that the network takes.

        Args:
            image: The images.
            channels: Channels that they are to have.
        """
        fits = image.dim() == 4 and image.shape[1] == channels
        return fits and all(n > 0 and n % self.stride == 0 for n in image.shape[2:])

    def stitched(self, encode: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        """Encode tile by tile, and keep of each what is far from its inner edges.

        Args:
            encode: Pixels to integers ``(B, h, w, ...)``.
            image: Pixels ``(B, C, H, W)``, H and W multiples of the stride.

        Returns:
            Integers ``(B, H / stride, W / stride, ...)``.
        """
        height, width = (n // self.stride for n in image.shape[-2:])
        whole: Tensor | None = None
        for rows, columns in self._tiles(height, width):
            code = encode(image[..., self._pixels(rows), self._pixels(columns)])
            if whole is None:
                whole = code.new_empty(len(code), height, width, *code.shape[3:])
            r, c = self._kept(rows, height), self._kept(columns, width)
            inner = code[:, r.start - rows[0] : r.stop - rows[0]]
            whole[:, r, c] = inner[:, :, c.start - columns[0] : c.stop - columns[0]]
        assert whole is not None
        return whole

    def blended(self, decode: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
        """Decode tile by tile, and pass from one to the next gradually where they overlap.

        Args:
            decode: Integers ``(B, h, w, ...)`` to pixels ``(B, C, stride h, stride w)``.
            index: Integers ``(B, H, W, ...)``.

        Returns:
            Pixels ``(B, C, stride H, stride W)``.
        """
        height, width = index.shape[1:3]
        tiles = list(self._tiles(height, width))
        if len(tiles) == 1:
            return decode(index)
        whole = total = torch.empty(0)
        for rows, columns in tiles:
            pixels = decode(index[:, slice(*rows), slice(*columns)])
            if not len(total):
                size = height * self.stride, width * self.stride
                whole, total = pixels.new_zeros(*pixels.shape[:2], *size), pixels.new_zeros(size)
            along = self._ramp(rows, height).to(pixels), self._ramp(columns, width).to(pixels)
            weight = along[0][:, None] * along[1]
            r, c = self._pixels(rows), self._pixels(columns)
            whole[..., r, c] += weight * pixels
            total[r, c] += weight
        return whole / total

    def _tiles(self, height: int, width: int) -> Iterator[tuple[Window, Window]]:
        return product(self._windows(height), self._windows(width))

    def _windows(self, size: int) -> Iterator[Window]:
        """Cover an axis with windows of one length, of which two overlap by two margins or more."""
        last = max(size - self.tile, 0)
        for start in range(0, last, self.tile - 2 * self.margin):
            yield start, start + self.tile
        yield last, size

    def _kept(self, window: Window, size: int) -> slice:
        start, stop = window
        return slice(
            start + self.margin if start else 0, stop - self.margin if stop < size else size
        )

    def _ramp(self, window: Window, size: int) -> Tensor:
        """Return the weight of each pixel along an axis: 0 to half a margin from an inner edge."""
        start, stop = window
        place, margin = torch.arange((stop - start) * self.stride) + 0.5, self.margin * self.stride
        far = torch.full_like(place, torch.inf)
        inward = torch.minimum(place if start else far, len(place) - place if stop < size else far)
        return ((inward - margin / 2) / margin).clamp(0, 1)

    def _pixels(self, window: Window) -> slice:
        return slice(window[0] * self.stride, window[1] * self.stride)
