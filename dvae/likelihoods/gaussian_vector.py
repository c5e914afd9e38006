"""Gaussian values that are not pixels: rows of a table, vectors, signals."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dvae.functional import gaussian_log_prob
from dvae.likelihoods.base import Likelihood
from dvae.likelihoods.gaussian import SIGMA

__all__ = ["GaussianVector"]


class GaussianVector(Likelihood):
    r"""Independent :math:`\mathcal N(\mu_d, \sigma_c^2)` of real values, unbounded on either side.

    The decoder gives the mean; each entry of the event's first axis (a column of a table, a channel
    of a signal) has a standard deviation of its own, which the optimizer learns. Nothing is scaled,
    clipped or dequantized: the density is that of the values as they come, so data whose columns
    have very different sizes are best brought to one, as `dvae.data.Table` does.

    Args:
        sigma: Standard deviations at the start, above 0, on the scale of the values.
        floor: The least standard deviation, above 0, which keeps a column that is always the same
            from an infinite density.

    Raises:
        ValueError: A value that is not a number above 0, or ``sigma`` below ``floor``.
    """

    params_per_channel = 1
    density = True
    pixels = False

    def __init__(self, sigma: float = 1.0, floor: float = 1e-2) -> None:
        super().__init__()
        SIGMA.check("GaussianVector.sigma", sigma)
        SIGMA.check("GaussianVector.floor", floor)
        if sigma < floor:
            raise ValueError(f"GaussianVector.sigma must be >= floor, {floor:g}; got {sigma:g}")
        self.sigma, self.floor = sigma, floor

    def build(self, event_shape: Sequence[int]) -> None:
        """Make a standard deviation for each entry of the first axis; see `Likelihood.build`."""
        super().build(event_shape)
        # One axis for each of the event's, so that it broadcasts over the others.
        shape = (event_shape[0], *[1] * (len(event_shape) - 1))
        self.log_sigma = nn.Parameter(torch.full(shape, math.log(self.sigma)))

    def check_values(self, x: Tensor) -> None:
        """Refuse what is not finite; see `Likelihood.check_values`."""
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError("values must be finite; got NaN or infinity among them")

    def as_values(self, x: Tensor) -> Tensor:
        """Turn integers into floats of the same value; see `Likelihood.as_values`."""
        return x if x.is_floating_point() else x.float()

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over the values; see `Likelihood.log_prob`."""
        log_sigma = self.log_sigma.clamp_min(math.log(self.floor))
        return gaussian_log_prob(params, log_sigma, x).sum(self.axes)

    def _mean(self, params: Tensor) -> Tensor:
        """Return the mean, unbounded; see `Likelihood.mean`."""
        return params
