"""Logit-Laplace pixels: a density that stays within a bounded interval, as in DALL-E."""

import math

from torch import Tensor

from dvae.functional import laplace_log_prob
from dvae.likelihoods.base import PIXELS, Likelihood, stored

__all__ = ["LogitLaplace"]

# Scales of a logit beyond these do not fit any pixel better, and exp of them may overflow.
_LOG_SCALE = (-7.0, 7.0)


class LogitLaplace(Likelihood):
    r"""A Laplace variable through a sigmoid, location and scale for each pixel.

    Pixels are mapped to :math:`y = \epsilon + (1 - 2\epsilon) x`, and

    .. math:: f(y) = \frac{\exp(-|\mathrm{logit}\,y - \mu| / b)}{2 b\, y (1 - y)}

    on (0, 1); the density over x carries the factor :math:`1 - 2\epsilon` of the map. Its
    interval is a little wider than [0, 1]: without the map a black or a white pixel would have a
    density of 0 or infinity. The image it returns is the median, as in the paper: the mean has no
    closed form.

    Args:
        eps: Width :math:`\epsilon` of the margins, in (0, 0.5); the paper's is 0.1.

    Raises:
        ValueError: ``eps`` is outside its range.

    References:
        A. Ramesh et al., 2021, arXiv 2102.12092, appendix A.3.
    """

    params_per_channel = 2
    density = True

    def __init__(self, eps: float = 0.1) -> None:
        super().__init__()
        if not 0 < eps < 0.5:
            raise ValueError(f"LogitLaplace.eps must be in (0, 0.5); got {eps:g}")
        self.eps = eps

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over pixels; see `Likelihood.log_prob`."""
        mu, log_b = params.chunk(2, -3)
        y = self.eps + (1 - 2 * self.eps) * x
        log_y, log_rest = y.log(), (-y).log1p()
        density = laplace_log_prob(mu, log_b.clamp(*_LOG_SCALE), log_y - log_rest)
        return (density - log_y - log_rest + math.log(1 - 2 * self.eps)).sum(PIXELS)

    def _mean(self, params: Tensor) -> Tensor:
        """Return the median as a stored pixel; see `Likelihood.mean`."""
        y = params.chunk(2, -3)[0].sigmoid()
        return stored((y - self.eps) / (1 - 2 * self.eps))
