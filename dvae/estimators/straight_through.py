r"""The straight-through estimator on a sampled one-hot code."""

from torch import Generator, Tensor

from dvae.estimators.base import (
    TEMPERATURE,
    About,
    Draw,
    PathwiseEstimator,
    check_logits,
    draw_index,
)
from dvae.functional import one_hot_like, softmax, straight_through
from dvae.scalars import register_scalar

__all__ = ["StraightThrough"]


class StraightThrough(PathwiseEstimator):
    r"""A draw :math:`D \sim \pi` forward, :math:`J(\mathrm{softmax}(\theta/\tau)) g / \tau` back.

    At :math:`\tau = 1` it is exact for every linear f and biased for the rest.

    Args:
        tau: Temperature of the backward softmax, above 0; a buffer that `Anneal` may move.

    Raises:
        ValueError: ``tau`` is not a number above 0.

    References:
        Y. Bengio, N. Leonard, A. Courville, 2013, arXiv 1308.3432.
    """

    about = About(2013, "1308.3432", "biased; exact for linear f")

    tau: Tensor

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, TEMPERATURE)

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        backward = softmax(theta.detach() / self.tau)
        return Draw(straight_through(logits, code, [backward], [self.tau.reciprocal()]), index)
