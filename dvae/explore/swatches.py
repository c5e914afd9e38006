"""What each code of a grid looks like: the pixels of one place, decoded from a grid full of it."""

import torch
from einops import rearrange
from torch import Tensor

from dvae.models import DiscreteVAE

__all__ = ["Swatches"]

# Grids that are decoded at once.
_CHUNK = 64


class Swatches:
    """Swatches of a model's codes, each decoded once.

    Args:
        model: In evaluation mode; its code is a grid.
    """

    def __init__(self, model: DiscreteVAE) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, codes: Tensor) -> Tensor:
        """Return the middle of the picture of a grid in which all places have the same code.

        Args:
            codes: What stands at one place, integers ``(N,)``, or ``(N, depth)`` where a place has
                several.

        Returns:
            Pixels in [0, 1], ``(N, C, s, s)``, with s the pixels of a place along a side.
        """
        keys = [tuple(code) for code in codes.reshape(len(codes), -1).tolist()]
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        for start in range(0, len(missing), _CHUNK):
            part = missing[start : start + _CHUNK]
            self._known.update(zip(part, self._decoded(part), strict=True))
        return torch.stack([self._known[key] for key in keys])

    def mosaic(self, code: Tensor) -> Tensor:
        """Put the swatch of each code at its place.

        Args:
            code: Integers ``(h, w)`` or ``(h, w, depth)``, of any height and width.

        Returns:
            Pixels in [0, 1], ``(C, s h, s w)``.
        """
        height, width = code.shape[:2]
        patches = self(code.flatten(0, 1)).unflatten(0, (height, width))
        mosaic: Tensor = rearrange(patches, "h w c s t -> c (h s) (w t)")
        return mosaic

    def _decoded(self, codes: list[tuple[int, ...]]) -> Tensor:
        height, width, *rest = self._model.index_shape
        rows = torch.tensor(codes).view(-1, 1, 1, *rest)
        pixels = self._model.decode(rows.expand(-1, height, width, *rest))
        side = pixels.shape[-1] // width
        top, left = height // 2 * side, width // 2 * side
        return pixels[..., top : top + side, left : left + side].clone()
