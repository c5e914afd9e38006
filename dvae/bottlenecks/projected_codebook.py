"""A code book whose logits are a linear function of the features, as in DALL-E."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import Expectation
from dvae.bottlenecks.codebook import CodebookBottleneck, rows_of
from dvae.bottlenecks.fused import Kernel, KernelChoice, fused_draw
from dvae.bottlenecks.processes import from_first_process
from dvae.bottlenecks.upkeep import Upkeep, data_centers, draw_far, round_size
from dvae.estimators.base import Estimator, check_count
from dvae.functional import squared_distance
from dvae.kernels import Book, Relaxation, Sweep, draw_seed, sweep

__all__ = ["ProjectedCodebook"]

# Nats by which a revived code's logit exceeds that of the code it is a copy of, at its point.
_MARGIN = 2.0
# How far a revived vector is off the one it is a copy of, as a fraction of the vectors' size. With
# less the decoder tells the two apart too late, and the KL makes them equally probable before.
_OFFSET = 0.5


class ProjectedCodebook(CodebookBottleneck):
    r"""Logits :math:`W z + b` by a 1x1 projection; the code book is the decoder's alone.

    With a k-means start the projection begins as the log-posterior of a mixture of Gaussians
    around the centers of the first batch's features, so that all codes are in use from the first
    step. A dead code is revived for one feature of the batch, the rather the farther that is from
    the mean of those with the same code: it becomes a copy of the code in use there, slightly off,
    that is more probable around that feature and less elsewhere.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        in_features: Channels that the encoder gives, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        learned_prior: Whether the prior over codes is learned; else it is uniform.
        upkeep: How the code book is started and kept alive.
        kernel: How `expectation`, `draw`, `mode` and `kl` are computed. ``plain`` has matrices of
            logits, positions by codes, and serves all estimators; ``blocked`` and ``triton`` (on
            CUDA) go over the codes block by block and serve Gumbel-softmax, straight-through and
            (not Triton) ReinMax; ``auto`` chooses by device and size. The noise of a seed is
            another with and without matrices, the same without.

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

    def kl(self, features: Tensor) -> Tensor:
        """Sum the exact KL over the positions, by the chosen kernel; see `Bottleneck.kl`."""
        found = self._sweep(features)
        if found is None:
            return super().kl(features)
        kl: Tensor = found.kl.view(len(features), -1).sum(1)
        return kl

    def mode(self, features: Tensor) -> Tensor:
        """Return the arg-max, ``(B, H, W)``, by the chosen kernel."""
        found = self._sweep(features)
        return super().mode(features) if found is None else _grid_of(found.mode, features)

    def draw(self, features: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max, ``(S, B, H, W)``, by the chosen kernel; see `Bottleneck.draw`."""
        drawn = []
        for _ in range(samples):
            found = self._sweep(features, lambda: draw_seed(generator, features.device))
            if found is None:
                return super().draw(features, samples, generator)
            drawn.append(_grid_of(found.index, features))
        return torch.stack(drawn)

    def _sweep(
        self, features: Tensor, seed: Callable[[], Tensor | int] = lambda: 0
    ) -> Sweep | None:
        """Find draw, mode and KL without the matrix of logits, unless the kernel is ``plain``."""
        rows = rows_of(features).flatten(0, -2)
        backend = self.kernel(rows, self.num_codes, self.code_features)
        if backend is None:
            return None
        relaxation = Relaxation(rows.new_ones(()), hard=True, noisy=False)
        found: Sweep = sweep(rows, self._book(rows.dtype), relaxation, seed(), backend)
        return found

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
        # Codes that are near to one another for the encoder are so for the decoder, too.
        vectors = self._mix_in(centers - centers.mean(0))
        self.codebook.copy_(from_first_process(vectors / vectors.std().clamp_min(1e-12)))

    def _mix_in(self, rows: Tensor) -> Tensor:
        """Turn ``(N, in_features)`` into ``(N, D)`` by a linear map drawn at random."""
        return rows @ torch.randn(self.in_features, self.code_features, device=rows.device)

    def _revive(self, points: Tensor, dead: Tensor) -> list[Tensor]:
        weight, bias, codebook = self.projection.weight, self.projection.bias, self.codebook
        best, code = self._logits(points).masked_fill(dead, -torch.inf).max(-1)
        codes = dead.nonzero().squeeze(1)
        scale: Tensor | None = None
        for new in codes.split(round_size(len(codes), len(points))):
            count = torch.bincount(code, minlength=self.num_codes).clamp_min(1).unsqueeze(1)
            mean = torch.zeros_like(weight).index_add_(0, code, points) / count
            distance = (points - mean[code]).square().sum(-1)
            chosen = draw_far(distance, len(new))
            parent, point = code[chosen], points[chosen]
            mean = mean[parent]
            # Adds s/2 (|z - mean|^2 - |z - point|^2) to the parent's logit, which is linear in z:
            # of a parent and its copies the one nearest to z is the most probable.
            if scale is None:
                scale = 2 * _MARGIN / distance[chosen].mean().clamp_min(1e-12)
            weight[new] = weight[parent] + scale * (point - mean)
            bias[new] = bias[parent] + scale / 2 * (mean.square() - point.square()).sum(-1)
            offset = self._mix_in(point - mean)
            offset *= _OFFSET * codebook.square().mean().sqrt() / offset.std().clamp_min(1e-12)
            codebook[new] = codebook[parent] + offset
            # The next are placed where these have left a code with much.
            value, which = (points @ weight[new].mT + bias[new]).max(-1)
            code = torch.where(value > best, new[which], code)
            best = torch.maximum(value, best)
        return [codebook, weight, bias]


def _grid_of(index: Tensor, features: Tensor) -> Tensor:
    batch, _, height, width = features.shape
    return index.view(batch, height, width)
