"""What vector quantizers share as bottlenecks: a posterior that is certain of one code."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import BottleneckOutput, Expectation
from dvae.bottlenecks.grid import GridBottleneck
from dvae.estimators.base import check_count
from dvae.functional import count_categories

__all__ = ["Quantizer"]


class Quantizer(GridBottleneck):
    r"""A deterministic posterior with a uniform prior, around a quantizer of another library.

    The KL of a point mass to the uniform prior is the rate, :math:`n \log K` nats per example for n
    integers, whatever the image. What the quantizer minimises besides is its auxiliary loss: it is
    no KL, and the same for all examples of a batch, an average over them.

    Args:
        quantizer: The module.
        num_codes: K, at least 2.
        code_dim: D, channels that the encoder gives and the decoder takes, at least 1.
        depth: Integers at each position, at least 1; with more than one, the grid of integers
            has an axis for them, ``(H, W, depth)``.

    Raises:
        ValueError: A value outside its range.
    """

    has_posterior = False
    uniform: Tensor

    def __init__(self, quantizer: nn.Module, num_codes: int, code_dim: int, depth: int = 1) -> None:
        super().__init__()
        check_count("num_codes", num_codes, 2)
        check_count("code_dim", code_dim, 1)
        self.quantizer = quantizer
        self.num_codes = num_codes
        self.depth = depth
        self.in_features = self.code_features = code_dim
        self.counts_shape = (num_codes,) if depth == 1 else (depth, num_codes)
        self.register_buffer(
            "uniform", torch.full((num_codes,), -math.log(num_codes)), persistent=False
        )

    @abstractmethod
    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize ``(B, N, D)``: code of that shape, index ``(B, N, ...)``, and loss.

        The loss is a scalar in its unit per position, averaged over positions and examples.
        """

    @abstractmethod
    def _look_up(self, index: Tensor) -> Tensor:
        """Turn integers ``(B, N, ...)`` into codes ``(B, N, D)``."""

    def forward(self, features: Tensor) -> BottleneckOutput:
        """Quantize; the logits are 0 at the code and ``-inf`` elsewhere."""
        code, index, loss = self._run(features)
        logits = code.new_full((*index.shape, self.num_codes), -torch.inf)
        logits = logits.scatter(-1, index.unsqueeze(-1), 0.0)
        return BottleneckOutput(code, index, logits, self.kl(features), loss)

    def expectation(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        generator: Generator | None = None,
    ) -> Expectation:
        """Evaluate f at the code, through which its gradient goes; nothing is drawn."""
        code, _, loss = self._run(features)
        return Expectation(f(code.unsqueeze(0)).squeeze(0), self.kl(features), loss)

    def bound(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        samples: int,
        generator: Generator | None = None,
    ) -> Tensor:
        """Return f less the rate: all draws are the same. No auxiliary loss takes part."""
        out = self.expectation(f, features)
        return out.value - out.kl

    def kl(self, features: Tensor) -> Tensor:
        """Return the rate, nats per example ``(B,)``."""
        integers = features.shape[-2] * features.shape[-1] * self.depth
        rate = integers * math.log(self.num_codes)
        return self.uniform.new_full((len(features),), rate)

    def draw(self, features: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
        """Repeat the only code there is, ``(S, B, *index)``."""
        index = self.mode(features)
        return index.unsqueeze(0).expand(samples, *index.shape)

    @torch.no_grad()
    def mode(self, features: Tensor) -> Tensor:
        """Return the code ``(B, *index)`` and change no statistics."""
        training = self.quantizer.training
        self.quantizer.eval()
        try:
            return self._run(features)[1]
        finally:
            self.quantizer.train(training)

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., *index)``: codes ``(..., D, H, W)``."""
        axes = 2 if self.depth == 1 else 3
        leading, (height, width) = index.shape[:-axes], index.shape[-axes:][:2]
        flat = index.reshape(-1, height * width, *index.shape[-axes:][2:])
        if not len(flat):  # the library would guess sizes from the number of integers
            return self.uniform.new_zeros(*leading, self.code_features, height, width)
        with torch.autocast(index.device.type, enabled=False):  # as where it was quantized
            code = rearrange(self._look_up(flat), "b (h w) d -> b d h w", h=height)
        return code.view(*leading, *code.shape[1:])

    def log_posterior(self, features: Tensor, index: Tensor) -> Tensor:
        """Return 0 for the code and ``-inf`` for any other; see `Bottleneck.log_posterior`."""
        same = (index == self.mode(features)).flatten(2).all(2)
        return self.uniform.new_zeros(same.shape).masked_fill(~same, -torch.inf)

    @property
    def log_prior_probs(self) -> Tensor:
        """Uniform, ``(K,)``."""
        return self.uniform

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image; see `GridBottleneck.index_shape`."""
        return super().index_shape if self.depth == 1 else (*super().index_shape, self.depth)

    def count(self, index: Tensor) -> Tensor:
        """Count each code, ``(K,)``, or ``(depth, K)``."""
        levels = index.reshape(-1, self.depth)
        offset = torch.arange(self.depth, device=index.device) * self.num_codes
        counts = count_categories(levels + offset, self.depth * self.num_codes)
        return counts.view(self.counts_shape)

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
        batch, _, height, width = features.shape
        # Not under autocast: half precision takes one code for its neighbour. Whatever the weights
        # are, the library compares vectors that move by averages in float32.
        with torch.autocast(features.device.type, enabled=False):
            rows = rearrange(features, "b d h w -> b (h w) d").to(self.uniform.dtype)
            # Frozen: in evaluation, but the encoder still needs the gradient and auxiliary loss.
            frozen = not self.training and torch.is_grad_enabled() and rows.requires_grad
            if not batch:
                # The library would guess sizes from the number of features, and average over none.
                code, loss = rows, rows.new_zeros(())
                index = rows.new_zeros(0, height * width, *[self.depth] * (self.depth > 1))
            else:
                with self._frozen() if frozen else nullcontext():
                    code, index, loss = self._quantize(rows)
        loss = (loss * height * width).reshape(()).to(code.dtype).expand(batch)
        index = index.long().unflatten(1, (height, width))
        return rearrange(code, "b (h w) d -> b d h w", h=height), index, loss
