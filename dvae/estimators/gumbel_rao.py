r"""Gumbel-Rao: straight-through Gumbel-softmax with the noise given the draw averaged out."""

from torch import Generator, Tensor

from dvae.estimators.base import (
    TEMPERATURE,
    About,
    Draw,
    PathwiseEstimator,
    check_logits,
    draw_index,
    exponential_noise,
)
from dvae.functional import gumbel_softmax_given_max, one_hot_like, straight_through
from dvae.scalars import check_count, register_scalar

__all__ = ["GumbelRao", "relaxations_given"]


def relaxations_given(
    logits: Tensor, index: Tensor, tau: Tensor, samples: int, generator: Generator | None
) -> Tensor:
    """Draw relaxed codes whose arg-max is a given draw.

    Args:
        logits: Unnormalised log-probabilities ``(..., K)`` in float32 or float64.
        index: The draw, integers ``(...)``.
        tau: Temperature.
        samples: S.
        generator: Source of the noise; the global generator by default.

    Returns:
        Points of the simplex ``(S, ..., K)``, without a gradient.
    """
    *batch, codes = logits.shape
    exponential = exponential_noise((codes, samples, *batch), logits, generator).movedim(0, -1)
    return gumbel_softmax_given_max(logits.detach(), index, exponential, tau)


class GumbelRao(PathwiseEstimator):
    r"""A draw :math:`D \sim \pi` forward, the mean of :math:`J(s_k) g / \tau` over k backward.

    The :math:`s_k = \mathrm{softmax}((\theta + G_k) / \tau)` have Gumbel noise conditioned on
    the draw. The mean is that of the straight-through Gumbel-softmax and its variance never
    larger; one sample is the straight-through Gumbel-softmax, and as :math:`\tau \to 0` with
    many samples it is `ZGR`. All relaxed samples are kept for the backward pass.

    Args:
        tau: Temperature, above 0; a buffer that `Anneal` may move.
        samples: Relaxed samples for each draw, at least 1.

    Raises:
        ValueError: A value outside its range.

    References:
        M. Paulus, C. Maddison, A. Krause, 2021, arXiv 2010.04838, eq. 10.
    """

    about = About(2021, "2010.04838", "biased")

    tau: Tensor

    def __init__(self, tau: float = 0.5, samples: int = 10) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, TEMPERATURE)
        check_count("GumbelRao.samples", samples, 1)
        self.samples = samples

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        relaxed = relaxations_given(theta, index, self.tau, self.samples, generator)
        code = one_hot_like(logits, index)
        return Draw(straight_through(logits, code, [relaxed], [self.tau.reciprocal()]), index)
