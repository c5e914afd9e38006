"""A code book whose logits are a linear function of the features, as in DALL-E."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import Expectation
from dvae.bottlenecks.codebook import CodebookBottleneck, rows_of
from dvae.bottlenecks.fused import Kernel, KernelChoice, fused_draw
from dvae.bottlenecks.upkeep import Upkeep, data_centers, from_first_process
from dvae.estimators.base import Estimator, check_count
from dvae.functional import squared_distance
from dvae.kernels import Book

__all__ = ["ProjectedCodebook"]

# Nats by which a revived code's logit exceeds that of the code it is a copy of, at its point.
_MARGIN = 2.0
# Points of a batch that are looked at for revival.
_POINTS = 2**16
# How far a revived vector is off the one it is a copy of, as a fraction of the code book's spread:
# little for the reconstruction, and enough for the gradients of the two to differ.
_JITTER = 0.1


class ProjectedCodebook(CodebookBottleneck):
    r"""Logits :math:`W z + b` by a 1x1 projection; the code book is the decoder's alone.

    With a k-means start the projection begins as the log-posterior of a mixture of Gaussians
    around the centers of the first batch's features, so that all codes are in use from the first
    step. A dead code is revived for one feature of the batch: it becomes a copy of the code in use
    there, slightly off, that is more probable around that feature and less elsewhere. The
    optimizer's moments of a moved row stay; they are those of a code without a gradient, near zero.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        in_features: Channels that the encoder gives, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        learned_prior: Whether the prior over codes is learned; else it is uniform.
        upkeep: How the code book is started and kept alive.
        kernel: How `expectation` draws. ``plain`` has matrices of logits, positions by codes, and
            serves all estimators; ``blocked`` and ``triton`` (on CUDA) go over the codes block by
            block and serve Gumbel-softmax and straight-through; ``auto`` chooses by device and
            size. The noise of a seed is another with and without matrices, the same without.

    Raises:
        ValueError: A value outside its range.

    References:
        A. Ramesh et al., 2021, arXiv 2102.12092, section 2.1 and appendix A.

    Example:
        >>> import torch
        >>> layer = ProjectedCodebook(num_codes=8, code_dim=4, in_features=6)
        >>> out = layer(torch.randn(2, 6, 3, 3))
        >>> out.code.shape, out.index.shape, out.kl.shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        in_features: int = 64,
        estimator: Estimator | None = None,
        learned_prior: bool = False,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__(num_codes, code_dim, estimator, learned_prior, upkeep)
        check_count("in_features", in_features, 1)
        self.in_features = in_features
        self.projection = nn.Linear(in_features, num_codes)
        self.kernel = KernelChoice(kernel, self.estimator)

    def expectation(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        generator: Generator | None = None,
    ) -> Expectation:
        """Evaluate f at one draw, by the chosen kernel; see `Bottleneck.expectation`."""
        grid = rows_of(features)
        rows = grid.flatten(0, -2)
        backend = self.kernel(rows, self.num_codes, self.code_features)
        if backend is None:
            return super().expectation(f, features, generator)
        if self.training:
            self._tend(grid)
        found = fused_draw(rows, self._book(rows.dtype), self.estimator, backend, generator)
        if self.training and self.idle.limit:
            self.idle.count(self.count(found.mode))
        batch, height, width, _ = grid.shape
        code = rearrange(found.code, "(b h w) d -> 1 b d h w", h=height, w=width)
        kl = found.kl.view(batch, height * width).sum(1)
        return Expectation(f(code).squeeze(0), kl, torch.zeros_like(kl))

    def _book(self, dtype: torch.dtype) -> Book:
        learned = self.prior_logits.requires_grad
        weight, bias = self.projection.weight.to(dtype), self.projection.bias.to(dtype)
        prior = self.log_prior_probs if learned else None
        return Book(weight, bias, self.codebook.to(dtype), prior)

    def _logits(self, rows: Tensor) -> Tensor:
        # Not under autocast: logits of a large code book need the digits of float32.
        with torch.autocast(rows.device.type, enabled=False):
            logits: Tensor = self.projection(rows)
        return logits

    def _start(self, points: Tensor) -> None:
        centers = data_centers(points, self.num_codes, self.upkeep.kmeans)
        nearest = squared_distance(points, centers).amin(-1).mean()
        # The maximum-likelihood variance of the mixture, of one coordinate.
        variance = from_first_process(nearest / self.in_features).clamp_min(1e-6)
        self.projection.weight.copy_(centers / variance)
        self.projection.bias.copy_(-0.5 * centers.square().sum(-1) / variance)

    def _revive(self, points: Tensor, dead: Tensor) -> None:
        weight, bias, codebook = self.projection.weight, self.projection.bias, self.codebook
        center = points.mean(0)
        points = points[:_POINTS]
        code = self._logits(points).argmax(-1)
        # The more points a code has, the more it needs to be divided.
        odds = torch.bincount(code, minlength=self.num_codes)[code].to(points.dtype)
        chosen = torch.multinomial(odds, int(dead.sum()), replacement=True)
        parent = code[chosen]
        offset = points[chosen] - center
        # Above its parent by the margin at a typical point of its own, equal half-way from the
        # center, below at the others' points.
        step = offset * (2 * _MARGIN / (points - center).square().sum(-1).mean().clamp_min(1e-12))
        level = -(step * (center + offset / 2)).sum(-1)
        noise = _JITTER * codebook.std() * torch.randn_like(codebook[parent])
        codebook[dead] = codebook[parent] + noise
        weight[dead] = weight[parent] + step
        bias[dead] = bias[parent] + level
        for table in (codebook, weight, bias):
            from_first_process(table.data)
