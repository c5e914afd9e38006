r"""ReinMax with its midpoint term sampled at a temperature and Rao-Blackwellised."""

from torch import Generator, Tensor

from dvae.estimators.base import (
    TEMPERATURE,
    About,
    Draw,
    PathwiseEstimator,
    check_logits,
    draw_index,
)
from dvae.estimators.gumbel_rao import relaxations_given
from dvae.functional import one_hot_like, softmax, straight_through
from dvae.scalars import check_count, register_scalar

__all__ = ["ReinMaxRao"]


class ReinMaxRao(PathwiseEstimator):
    r"""A draw :math:`D \sim \pi` forward; backward, `ReinMax` with Gumbel-Rao at its midpoint.

    The gradient is :math:`\frac2\tau \frac1S \sum_k J(s_k) g - \frac12 J(\pi) g`, the
    :math:`s_k` relaxed at the logits :math:`\log \frac12 (\pi + D)` with noise conditioned on D.
    Conditioning on D, which was drawn from :math:`\pi` and not from the midpoint, costs
    exactness: for linear f the gradient tends to half the true one as :math:`\tau \to 0`. All
    relaxed samples are kept for the backward pass.

    Args:
        tau: Temperature, above 0; a buffer that `Anneal` may move.
        samples: Relaxed samples for each draw, at least 1.

    Raises:
        ValueError: A value outside its range.

    References:
        D. Wang, T. Bui, 2026, arXiv 2603.08257.
    """

    about = About(2026, "2603.08257", "biased")

    tau: Tensor

    def __init__(self, tau: float = 0.5, samples: int = 10) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, TEMPERATURE)
        check_count("ReinMaxRao.samples", samples, 1)
        self.samples = samples

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        probs = softmax(theta.detach())
        midpoint = (probs + code).mul(0.5).log()
        relaxed = relaxations_given(midpoint, index, self.tau, self.samples, generator)
        weights: list[Tensor | float] = [2 / self.tau, -0.5]
        return Draw(straight_through(logits, code, [relaxed, probs], weights), index)
