"""Laplace pixels: the absolute error, with a learned scale."""

import math

import torch
from torch import Tensor, nn

from dvae.functional import laplace_log_prob
from dvae.likelihoods.base import PIXELS, AroundMean
from dvae.scalars import Range

__all__ = ["Laplace"]


class Laplace(AroundMean):
    r"""Independent :math:`\tfrac1{2b} \exp(-|x - \mu| / b)`, one learned scale for all pixels.

    The decoder's output is the mean itself; as an image it is taken back to a stored pixel.

    Args:
        scale: The scale b at the start, above 0, for pixels in [0, 1].

    Raises:
        ValueError: ``scale`` is not a number above 0.
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        Range(0.0, low_allowed=False).check("Laplace.scale", scale)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-density over pixels; see `Likelihood.log_prob`."""
        return laplace_log_prob(params, self.log_scale, x).sum(PIXELS)
