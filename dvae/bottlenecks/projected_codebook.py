"""A code book whose logits are a linear function of the features, as in DALL-E."""

import math

import torch
from torch import Tensor, nn

from dvae.bottlenecks.codebook import CodebookBottleneck, rows_of
from dvae.bottlenecks.fused import Kernel, KernelChoice
from dvae.bottlenecks.fused_posterior import FusedPosterior
from dvae.bottlenecks.posterior import CategoricalPosterior, Posterior
from dvae.bottlenecks.processes import from_first_process
from dvae.bottlenecks.upkeep import Upkeep, data_centers, draw_far, soft_variance
from dvae.estimators.base import Estimator
from dvae.functional import count_categories, information_by_category
from dvae.kernels import Book, has_bfloat16_products
from dvae.priors.base import FactorisedPrior, Prior
from dvae.scalars import check_count

__all__ = ["ProjectedCodebook"]

_HALF = (torch.bfloat16, torch.float16)
# How steeply the halves of a code are told apart, in parts of what tells other codes apart. Logits
# are linear: with more, the halves would win far away from their cell what was never theirs.
_GENTLE = 0.25
# Nats by which they would be, a standard deviation from the mean, where there are no other codes.
_MARGIN = 4.0
# What a draw has to tell of its position for its code to be in use, in parts of log K.
_TELLING = 0.16
# Distance of the halves' vectors, as a fraction of the vectors' size. With less the decoder tells
# the two apart too late, and the KL makes them equally probable before.
_OFFSET = 0.5


class ProjectedCodebook(CodebookBottleneck):
    r"""Logits :math:`W z + b` by a 1x1 projection; the code book is the decoder's alone.

    With a k-means start the projection begins as the log-posterior of a mixture of Gaussians
    around the centers of the first batch's features, so wide that posteriors have a perplexity of
    :math:`\sqrt K` on average: all codes are in use from the first step, and none for sure. A dead
    code is revived as one half of the code whose features are spread most: one of the halves is the
    more probable on either side of the features' mean, and their vectors lie on either side of the
    code's own, so that the decoder sees on average what it saw before.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        in_features: Channels that the encoder gives, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        learned_prior: No longer here: the prior is the model's, see `dvae.priors`.
        upkeep: How the code book is started and kept alive.
        kernel: How draws, expectations and the KL are computed. ``plain`` has matrices of
            logits, positions by codes, and serves all estimators; ``blocked`` and ``triton`` (on
            CUDA) go over the codes block by block and serve Gumbel-softmax, straight-through and
            (not Triton) ReinMax; ``auto`` chooses by device and size. The noise of a seed is
            another with and without matrices, the same without.

    Raises:
        ValueError: A value outside its range.

    References:
        A. Ramesh et al., 2021, arXiv 2102.12092, section 2.1 and appendix A; Y. Linde, A. Buzo,
        R. Gray, 1980, *An algorithm for vector quantizer design*, section III (splitting).

    Example:
        >>> import torch
        >>> layer = ProjectedCodebook(num_codes=8, code_dim=4, in_features=6)
        >>> q = layer(torch.randn(2, 6, 3, 3))
        >>> q.draw().z.shape, q.mode().shape, q.entropy().shape
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

    def forward(self, features: Tensor, prior: Prior | None = None) -> Posterior:
        """Make the posterior of a batch, by the chosen kernel; see `Bottleneck.forward`."""
        grid = rows_of(features)
        # What is reported of a model comes from evaluation, where everything is float32.
        half = self.training and features.dtype in _HALF
        backend = self.kernel(self.estimator, grid, self.codebook, self.training, half)
        if backend is None or not (prior is None or isinstance(prior, FactorisedPrior)):
            return super().forward(features, prior)
        if self.training:
            self._tend(grid, None if prior is None else prior.revive)
        rows = grid.flatten(0, -2)
        if self.training:
            self._note(rows, self._logits)
        native = features.dtype == torch.bfloat16 and has_bfloat16_products(features.device)
        if half and (backend == "triton" or native):
            # Products of half precision summed in float32 are what tensor cores are for, and what
            # some CPUs have instructions for.
            rows = features.movedim(1, -1).flatten(0, -2)
        tensors = (self.projection.weight, self.projection.bias, self.codebook)
        book = Book(*(x.to(rows.dtype) for x in tensors))
        return FusedPosterior(grid, rows, book, prior, self.estimator, backend, self._plain)

    def _plain(self, grid: Tensor) -> CategoricalPosterior:
        return CategoricalPosterior(self._logits(grid), self.estimator, self.mix)

    def _logits(self, rows: Tensor) -> Tensor:
        # Not under autocast: logits of a large code book need the digits of float32.
        with torch.autocast(rows.device.type, enabled=False):
            logits: Tensor = self.projection(rows)
        return logits

    def _uses(self, logits: Tensor) -> Tensor:
        """Count the positions where a code is the most probable, and the draws that tell something.

        With posteriors over many codes one can be drawn at its places for long, and known by the
        decoder, before it is the most probable anywhere. One that is drawn everywhere alike is in
        no use: of equal codes all are.
        """
        draws = logits.softmax(-1).sum(0)
        telling = information_by_category(logits) >= _TELLING * math.log(self.num_codes) * draws
        return super()._uses(logits) + draws * telling

    def _start(self, points: Tensor) -> list[Tensor]:
        centers = data_centers(points, self.num_codes, self.upkeep.kmeans)
        variance = soft_variance(points, centers)
        self.projection.weight.copy_(centers / variance)
        self.projection.bias.copy_(-0.5 * centers.square().sum(-1) / variance)
        # Codes that are near to one another for the encoder are so for the decoder, too.
        vectors = self._mix_in(centers - centers.mean(0))
        self.codebook.copy_(from_first_process(vectors / vectors.std().clamp_min(1e-12)))
        return [self.codebook, self.projection.weight, self.projection.bias]

    def _mix_in(self, rows: Tensor) -> Tensor:
        """Turn ``(N, in_features)`` into ``(N, D)`` by a linear map drawn at random."""
        return rows @ torch.randn(self.in_features, self.code_features, device=rows.device).to(rows)

    def _revive(self, points: Tensor, dead: Tensor) -> list[Tensor]:
        weight, bias, codebook = self.projection.weight, self.projection.bias, self.codebook
        size = codebook[~dead].square().mean().sqrt()
        left, dead = dead.nonzero().squeeze(1), dead.clone()
        scale: Tensor | None = None
        while len(left):
            code = self._logits(points).masked_fill(dead, -torch.inf).argmax(-1)
            cells = _Cells(points, code, self.num_codes)
            scale = _GENTLE * cells.steepness(weight) if scale is None else scale
            parent, mean, away = cells.widest(len(left))
            new, left = left[: len(parent)], left[len(parent) :]
            tilt = scale * away
            shift = (tilt * mean).sum(-1)  # the halves are equally probable at the cell's mean
            level = bias[parent]
            offset = self._mix_in(away)
            offset *= _OFFSET / 2 * size / offset.square().mean(-1, keepdim=True).sqrt()
            weight[new], weight[parent] = weight[parent] + tilt, weight[parent] - tilt
            bias[new], bias[parent] = level - shift, level + shift
            codebook[new], codebook[parent] = codebook[parent] + offset, codebook[parent] - offset
            dead[new] = False
        return [codebook, weight, bias]


class _Cells:
    """Points by the code that each belongs to.

    Args:
        points: ``(N, C)``.
        code: ``(N,)``, within 0 to K - 1.
        num_codes: K.
    """

    def __init__(self, points: Tensor, code: Tensor, num_codes: int) -> None:
        self.points = points
        self.count = count_categories(code, num_codes)
        self.mean = points.new_zeros(num_codes, points.shape[1]).index_add_(0, code, points)
        self.mean /= self.count.clamp_min(1).unsqueeze(1)
        distance = (points - self.mean[code]).square().sum(-1)
        self.variance = distance.mean().clamp_min(1e-12)
        spread = distance.new_zeros(num_codes).index_add_(0, code, distance)
        self.spread = torch.where(self.count > 0, spread, -1.0)
        # A point of each cell, the more probable the farther it is from the mean.
        order = draw_far(distance, len(points))
        first = torch.full_like(self.count, len(points) - 1)
        place = torch.arange(len(points), device=code.device)
        self.point = order[first.scatter_reduce_(0, code[order], place, "amin")]

    def steepness(self, weight: Tensor) -> Tensor:
        """Compare how far apart the weights of the codes in use are with how far their means are.

        Args:
            weight: Weights of the logits, ``(K, C)``.

        Returns:
            A scalar s, such that the weights spread as s times the means do: the precision, were
            they a mixture of equal Gaussians. With one code in use there is nothing to compare, and
            it is the one of a margin.
        """
        used = self.count > 0
        if used.sum() < 2:
            return _MARGIN / 2 / self.variance
        of_weights, of_means = (x[used].var(0).sum() for x in (weight, self.mean))
        return (of_weights / of_means.clamp_min(1e-12)).sqrt()

    def widest(self, limit: int) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the cells that have most to tell apart.

        Args:
            limit: How many at most, at least 1.

        Returns:
            Codes ``(n,)``; means ``(n, C)``; from each mean, the direction of a point by the length
            of the root of the mean squared distance, ``(n, C)``.
        """
        code = self.spread.topk(min(limit, int((self.count > 0).sum()))).indices
        mean = self.mean[code]
        away = self.points[self.point[code]] - mean
        # A cell of one point, or of equal ones, is halved in any direction, ever so little.
        away = torch.where(away.norm(dim=1, keepdim=True) > 0, away, torch.randn_like(away))
        radius = (self.spread[code] / self.count[code]).sqrt().unsqueeze(1)
        least = 1e-3 * self.variance.sqrt()
        return code, mean, away / away.norm(dim=1, keepdim=True) * torch.maximum(radius, least)
