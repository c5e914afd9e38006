"""Gaussian pixels, with a variance that is fixed, learned, or the best one for the errors made."""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dvae.functional import gaussian_log_prob
from dvae.likelihoods.base import PIXELS, AroundMean
from dvae.scalars import Range

__all__ = ["Gaussian", "LearnedGaussian", "OptimalGaussian"]

SIGMA = Range(0.0, low_allowed=False)


class Gaussian(AroundMean):
    r"""Independent :math:`\mathcal N(\mu, \sigma^2)`, one standard deviation for all pixels.

    The decoder's output is the mean itself; as an image it is taken back to a stored pixel. With
    :math:`\sigma^2 = 1/2` the objective is the squared error of the whole image.

    Args:
        sigma: Standard deviation, above 0, on the scale of pixels in [0, 1].

    Raises:
        ValueError: ``sigma`` is not a number above 0.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        SIGMA.check("Gaussian.sigma", sigma)
        self.sigma = sigma

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over pixels; see `Likelihood.log_prob`."""
        return gaussian_log_prob(params, math.log(self.sigma), x).sum(PIXELS)


class LearnedGaussian(AroundMean):
    r"""As `Gaussian`, with a standard deviation that the optimizer learns with the weights.

    Args:
        sigma: Standard deviation at the start, above 0.

    Raises:
        ValueError: ``sigma`` is not a number above 0.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        SIGMA.check("LearnedGaussian.sigma", sigma)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over pixels; see `Likelihood.log_prob`."""
        return gaussian_log_prob(params, self.log_sigma, x).sum(PIXELS)


class OptimalGaussian(AroundMean):
    r"""As `Gaussian`, with the variance that maximises the likelihood: the mean squared error.

    The variance is a running mean of the squared error of the training batches, a buffer of the
    checkpoint, so this is a proper density at every step and its value for an image does not
    depend on the batch. Its gradient is that of :math:`-\tfrac D2 \log \sum_i (x_i - \mu_i)^2`,
    the loss of SQ-VAE, since at the optimum the variance's own derivative is zero. It moves once in
    a step: by the error of all batches whose gradients are accumulated, and of all codes that an
    estimator evaluates for an example.

    Args:
        sigma: Standard deviation before the first batch, above 0.
        decay: How much of the running mean stays at each training step, in [0, 1). The first batch
            replaces the start.
        floor: The least standard deviation, above 0: half a level of an 8-bit pixel by default.

    Raises:
        ValueError: A value outside its range.

    References:
        O. Rybkin, K. Daniilidis, S. Levine, 2021, arXiv 2006.13202, eq. 5; Y. Takida et al., 2022,
        arXiv 2205.07547, section 4 (SQ-VAE).
    """

    variance: Tensor
    updates: Tensor

    def __init__(self, sigma: float = 0.1, decay: float = 0.99, floor: float = 1 / 512) -> None:
        super().__init__()
        SIGMA.check("OptimalGaussian.sigma", sigma)
        SIGMA.check("OptimalGaussian.floor", floor)
        if not 0 <= decay < 1:
            raise ValueError(f"OptimalGaussian.decay must be in [0, 1); got {decay:g}")
        self.decay = decay
        self.floor = floor
        self.register_buffer("variance", torch.tensor(float(sigma) ** 2))
        self.register_buffer("updates", torch.tensor(0))
        # Of the step being made: the variance before it, and the sum and number of its errors.
        self._seen: tuple[Tensor, Tensor] | None = None

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over pixels; in training, follow the error first."""
        if self.training:
            self._follow(params, x)
        log_sigma = 0.5 * self.variance.log()
        return gaussian_log_prob(params, log_sigma, x).sum(PIXELS)

    @torch.no_grad()
    def _follow(self, params: Tensor, x: Tensor) -> None:
        square = (params - x).square()
        error = square.sum().to(self.variance.dtype)
        total = torch.stack([error, torch.full_like(error, square.numel())])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        before, earlier = self._seen or (self.variance, torch.zeros_like(total))
        total = earlier + total
        self._seen = before, total
        # The plain mean until the running one has as long a memory: the first batch replaces the
        # start, and no step waits for the device to say how many there were. A batch without images
        # leaves all as it is.
        weight = (1 / (self.updates + 1).to(error.dtype)).clamp_min(1 - self.decay)
        weight = weight * (total[1] > 0)
        # Out of place: the graph of an earlier call in this step may hold the old value.
        self.variance = torch.lerp(before, total[0] / total[1].clamp_min(1), weight)
        self.variance = self.variance.clamp_min(self.floor**2)
        if not self.accumulates:
            self.step()

    def step(self) -> None:
        """Keep the variance of the passes since the last step; see `Stepwise.step`."""
        if self._seen is not None:
            self.updates = self.updates + (self._seen[1][1] > 0)
            self._seen = None

    def skip_step(self) -> None:
        """Go back to the variance before these passes; see `Stepwise.skip_step`."""
        if self._seen is not None:
            self.variance, self._seen = self._seen[0], None
