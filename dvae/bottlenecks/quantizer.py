"""What vector quantizers share as bottlenecks: a posterior that is certain of one code."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dvae.bottlenecks.grid import GridBottleneck, count_levels
from dvae.bottlenecks.posterior import PointPosterior
from dvae.priors.base import Prior
from dvae.scalars import check_count

__all__ = ["Quantizer"]


class Quantizer(GridBottleneck):
    r"""A deterministic posterior, around a quantizer of another library.

    The KL of a point mass to the prior is the code length; to a uniform prior :math:`n \log K` nats
    per example for n integers, whatever the image. What the quantizer minimises besides is its
    auxiliary loss, which is not a KL, and the same for all examples of a batch: their average.

    Args:
        kind: Class of the module.
        num_codes: K, at least 2.
        code_dim: D, channels that the encoder gives and the decoder takes, at least 1.
        depth: Integers at each position, at least 1; with more than one, the grid of integers
            has an axis for them, ``(H, W, depth)``.
        settings: Arguments of the module beside ``dim``.

    Raises:
        ValueError: A value outside its range.
    """

    has_posterior = False
    one: Tensor

    def __init__(
        self, kind: type[nn.Module], num_codes: int, code_dim: int, depth: int = 1, **settings: Any
    ) -> None:
        super().__init__()
        check_count("num_codes", num_codes, 2)
        check_count("code_dim", code_dim, 1)
        self.quantizer = kind(dim=code_dim, **settings)
        self.num_codes = num_codes
        self.depth = depth
        self.in_features = self.code_features = code_dim
        self.counts_shape = (num_codes,) if depth == 1 else (depth, num_codes)
        # Knows the device and the precision of a layer without parameters.
        self.register_buffer("one", torch.ones(()), persistent=False)

    @abstractmethod
    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize ``(B, N, D)``: code of that shape, index ``(B, N, ...)``, and loss.

        The loss is a scalar in its unit per position, averaged over positions and examples.
        """

    def _look_up(self, index: Tensor) -> Tensor:
        """Turn integers ``(B, N, ...)`` into codes ``(B, N, D)``."""
        codes: Tensor = self.quantizer.indices_to_codes(index)  # type: ignore[operator]
        return codes

    def forward(self, features: Tensor, prior: Prior | None = None) -> PointPosterior:
        """Quantize; see `Bottleneck.forward`."""
        z, index, loss = self._run(features)
        return PointPosterior(z, index, self.num_codes, loss if self.has_loss else None)

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., *index)``: codes ``(..., D, H, W)``."""
        axes = self.axes + (self.depth > 1)
        leading, place = index.shape[:-axes], index.shape[-axes:]
        grid, depth = place[: self.axes], place[self.axes :]
        flat = index.reshape(-1, math.prod(grid), *depth)
        if not len(flat):  # the library would guess sizes from the number of integers
            return self.one.new_zeros(*leading, self.code_features, *grid)
        with torch.autocast(index.device.type, enabled=False):  # as where it was quantized
            code: Tensor = self._look_up(flat).mT.unflatten(-1, grid)
        return code.view(*leading, *code.shape[1:])

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image; see `GridBottleneck.index_shape`."""
        return super().index_shape if self.depth == 1 else (*super().index_shape, self.depth)

    def count(self, index: Tensor) -> Tensor:
        """Count each code, ``(K,)``, or ``(depth, K)``."""
        return count_levels(index, self.depth, self.num_codes).view(self.counts_shape)

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Let the quantizer pass a gradient as in training, its moving averages as they are."""
        self.quantizer.train()
        for module in self.quantizer.modules():
            if hasattr(module, "embed_avg"):
                module.eval()
        try:
            yield
        finally:
            self.quantizer.eval()

    def _run(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return code ``(B, D, H, W)``, index ``(B, *index)`` and the loss of each example."""
        batch, _, *grid = features.shape
        # Not under autocast: half precision takes one code for its neighbour. Whatever the weights
        # are, the library compares vectors that move by averages in float32.
        with torch.autocast(features.device.type, enabled=False):
            rows = features.flatten(2).mT.to(self.one.dtype)
            # Frozen: in evaluation, but the encoder still needs the gradient and auxiliary loss.
            frozen = not self.training and torch.is_grad_enabled() and rows.requires_grad
            if not batch:
                # The library would guess sizes from the number of features, and average over none.
                code, loss = rows, rows.new_zeros(())
                index = rows.new_zeros(0, math.prod(grid), *[self.depth] * (self.depth > 1))
            else:
                with self._frozen() if frozen else nullcontext():
                    code, index, loss = self._quantize(rows)
        for size in grid:
            loss = loss * size
        loss = loss.reshape(()).to(code.dtype).expand(batch)
        return code.mT.unflatten(-1, grid), index.long().unflatten(1, grid), loss
