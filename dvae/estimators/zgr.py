r"""ZGR: the zero-temperature limit of Gumbel-Rao in closed form."""

from torch import Generator, Tensor

from dvae.estimators.base import About, Draw, PathwiseEstimator, check_logits, draw_index
from dvae.functional import one_hot_like, softmax, zgr

__all__ = ["ZGR"]


class ZGR(PathwiseEstimator):
    r"""A draw forward, :math:`\frac12 [J(\pi) g + (g^\top (D - \pi)) (D - \pi)]` backward.

    It has no temperature, is exact for every quadratic f, and equals `ReinMax` at
    :math:`\tau = 1` draw by draw.

    References:
        A. Shekhovtsov, 2023, *Cold analysis of Rao-Blackwellized straight-through
        Gumbel-softmax gradient estimator*, ICML.
    """

    about = About(2023, "Shekhovtsov", "biased; exact for quadratic f")

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        return Draw(zgr(logits, code, softmax(theta.detach())), index)
