"""A code book whose logits are the distances of the features to its vectors, as in SQ-VAE."""

import math

import torch
from torch import Tensor, nn

from dvae.bottlenecks.codebook import CodebookBottleneck
from dvae.bottlenecks.upkeep import Upkeep, data_centers, soft_variance, spread_out
from dvae.estimators.base import Estimator
from dvae.functional import squared_distance
from dvae.scalars import Range

__all__ = ["DistanceCodebook"]

_POSITIVE = Range(0.0, low_allowed=False)


class DistanceCodebook(CodebookBottleneck):
    r"""Logits :math:`-\|z - e_k\|^2 / 2\sigma^2` with :math:`\sigma^2` learned.

    The vectors that are compared with are those that the decoder sees. The auxiliary loss is the
    exact :math:`\sum_k q_k \|z - e_k\|^2 / 2\sigma^2`, in nats per example, summed over positions:
    with the weight 1 it completes the objective of SQ-VAE.

    With a k-means start the code book begins at the centers of the first batch's features, and
    :math:`\sigma^2`, where none is given, where a feature's posterior has a perplexity of
    :math:`\sqrt K` on average: sharper, the auxiliary loss would draw all features together before
    the decoder can tell them apart. A dead code moves to one of the batch's features, the more
    probably the farther that is from all codes in use; :math:`\sigma^2` is brought down, where it
    has to be, until the batch's posteriors have that perplexity again.

    Args:
        num_codes: K, at least 2.
        code_dim: D, also the channels that the encoder gives, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        variance: Start of :math:`\sigma^2`, above 0, in squared units of the features; by default
            from the data, or 1 without a k-means start.
        commitment: Weight of the auxiliary loss, at least 0.
        learned_prior: No longer here: the prior is the model's, see `dvae.priors`.
        upkeep: How the code book is started and kept alive.

    Raises:
        ValueError: A value outside its range.

    References:
        Y. Takida et al., 2022, arXiv 2205.07547, eq. 9 and section 3.

    Example:
        >>> import torch
        >>> layer = DistanceCodebook(num_codes=8, code_dim=4)
        >>> q = layer(torch.randn(2, 4, 3, 3))
        >>> q.draw().z.shape, q.loss.shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        estimator: Estimator | None = None,
        variance: float | None = None,
        commitment: float = 1.0,
        learned_prior: bool = False,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(num_codes, code_dim, estimator, learned_prior, upkeep)
        if variance is not None:
            _POSITIVE.check("DistanceCodebook.variance", variance)
        Range(0.0).check("DistanceCodebook.commitment", commitment)
        self.in_features = code_dim
        self.commitment = commitment
        self.has_loss = commitment > 0
        self.variance_from_data = variance is None
        self.log_variance = nn.Parameter(torch.tensor(math.log(variance or 1.0)))

    def _logits(self, rows: Tensor) -> Tensor:
        return -0.5 * squared_distance(rows, self.codebook) * (-self.log_variance).exp()

    def _penalty(self, rows: Tensor, logits: Tensor) -> Tensor | None:
        if not self.has_loss:
            return None
        # The logits are minus what is weighed; -inf does not occur in them.
        return -self.commitment * (logits.softmax(-1) * logits).flatten(1).sum(1)

    def _start(self, points: Tensor) -> list[Tensor]:
        self.codebook.copy_(data_centers(points, self.num_codes, self.upkeep.kmeans))
        if self.variance_from_data:
            self.log_variance.copy_(soft_variance(points, self.codebook).log())
        return [self.codebook]

    def _revive(self, points: Tensor, dead: Tensor) -> list[Tensor]:
        points = points.to(self.codebook.dtype)
        distance = squared_distance(points, self.codebook[~dead]).amin(-1)
        self.codebook[dead] = points[spread_out(points, distance, int(dead.sum()))]
        # While few codes were left nothing held the variance down, and features gathered around
        # them: all codes would be equally probable everywhere, and for the decoder the same.
        most = self.log_variance.exp()
        soft = soft_variance(points, self.codebook, most)
        self.log_variance.copy_(torch.where(soft < most, soft.log(), self.log_variance))
        return [self.codebook]
