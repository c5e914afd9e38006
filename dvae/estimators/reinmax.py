r"""ReinMax: straight-through raised to second order by Heun's rule."""

from torch import Generator, Tensor

from dvae.estimators.base import About, Draw, PathwiseEstimator, check_logits, draw_index
from dvae.functional import one_hot_like, softmax, straight_through
from dvae.scalars import Range, register_scalar

__all__ = ["ReinMax"]


class ReinMax(PathwiseEstimator):
    r"""A draw :math:`D \sim \pi` forward, :math:`2 J(\pi_D) g - \frac12 J(\pi) g` backward.

    Here :math:`\pi_D = \frac12 (\mathrm{softmax}(\theta/\tau) + D)`. At :math:`\tau = 1` it is
    exact for every quadratic f.

    Args:
        tau: Temperature, at least 1 (the paper's best are 1.1 to 1.5); a buffer that `Anneal`
            may move.

    Raises:
        ValueError: ``tau`` is not a number >= 1.

    References:
        L. Liu, C. Dong, X. Liu, B. Yu, J. Gao, 2023, arXiv 2304.08612, algorithm 2.
    """

    about = About(2023, "2304.08612", "biased; exact for quadratic f at tau = 1")

    tau: Tensor

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, Range(1.0))

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        detached = theta.detach()
        midpoint = (softmax(detached / self.tau) + code).mul_(0.5)
        probs = [midpoint, softmax(detached)]
        return Draw(straight_through(logits, code, probs, [2.0, -0.5]), index)
