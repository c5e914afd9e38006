"""A mixture of logistics, discretized to the 256 values of a stored pixel."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from dvae.functional import discretized_logistic_log_prob
from dvae.likelihoods.base import LEVELS, Likelihood
from dvae.scalars import check_count

__all__ = ["DiscretizedLogisticMixture"]

# The narrowest puts all its mass on one level, the widest is flat over all of them.
_LOG_SCALE = (-8.0, 3.0)


class DiscretizedLogisticMixture(Likelihood):
    r"""Each pixel a mixture of M colours, each channel a discretized logistic around it.

    .. math:: P(x) = \sum_m \pi_m \prod_c
        \left[\sigma\!\left(\tfrac{x_c + \delta - \mu_{mc}}{s_{mc}}\right)
        - \sigma\!\left(\tfrac{x_c - \delta - \mu_{mc}}{s_{mc}}\right)\right], \delta = 1/510

    with the lowest and the highest level taking the tails: a mass over 8-bit pixels that sums to
    one. The mixture is shared by the channels of a pixel, whose weights are added up. The paper's
    regression of green on red and of blue on both is left out. The image it returns is the mean of
    the locations, clipped.

    Args:
        components: M, at least 1; the paper has 5 in its ablations and 10 elsewhere.

    Raises:
        ValueError: ``components`` is below 1.

    References:
        T. Salimans, A. Karpathy, X. Chen, D. Kingma, 2017, arXiv 1701.05517, eq. 2.
    """

    density = False
    levels = LEVELS

    def __init__(self, components: int = 5) -> None:
        super().__init__()
        check_count("DiscretizedLogisticMixture.components", components, 1)
        self.components = components
        self.params_per_channel = 3 * components

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-mass over pixels; see `Likelihood.log_prob`."""
        log_weight, location, log_scale = self._split(params)
        channels = self._components(location, log_scale, x)
        return (log_weight + channels.sum(-3)).logsumexp(-3).sum((-2, -1))

    def level_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """Weigh all levels, the mixture by the channels before; see `Likelihood.level_probs`.

        What is known of a pixel's colour makes some of the M more probable than others.
        """
        known = x.shape[1]
        log_weight, location, log_scale = self._split(params)
        before = self._components(location[:, :, :known], log_scale[:, :, :known], x)
        weight = (log_weight + before.sum(-3)).softmax(-3).unsqueeze(-1)
        # A difference of sigmoids, which is quicker than its logarithm, between neighbouring edges.
        edge = torch.arange(0.5, LEVELS - 1, dtype=params.dtype, device=params.device)
        distance = edge / (LEVELS - 1) - location[:, :, known].unsqueeze(-1)
        inverse = (-log_scale[:, :, known].clamp(*_LOG_SCALE)).exp().unsqueeze(-1)
        below = F.pad((weight * (distance * inverse).sigmoid()).sum(-4), (1, 0))
        return torch.diff(F.pad(below, (0, 1), value=1.0), dim=-1).clamp_min(0)

    def _mean(self, params: Tensor) -> Tensor:
        """Return the weighted locations, clipped; see `Likelihood.mean`."""
        log_weight, location, _ = self._split(params)
        return (log_weight.exp().unsqueeze(-3) * location.clamp(0, 1)).sum(-4).clamp(0, 1)

    def _components(self, location: Tensor, log_scale: Tensor, x: Tensor) -> Tensor:
        """Log-mass of channels ``(..., C, H, W)`` under each of the M: ``(..., M, C, H, W)``."""
        return discretized_logistic_log_prob(
            location, log_scale.clamp(*_LOG_SCALE), x.unsqueeze(-4), LEVELS
        )

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-weights ``(..., M, H, W)``, locations and log-scales ``(..., M, C, H, W)``."""
        pattern = "... (p m c) h w -> p ... m c h w"
        weight, location, log_scale = rearrange(params, pattern, p=3, m=self.components)
        # Locations start in mid-grey, and a unit of the decoder's output is the range of a pixel.
        return weight.sum(-3).log_softmax(-3), location + 0.5, log_scale
