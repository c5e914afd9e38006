r"""Gapped straight-through: a deterministic perturbation that puts the draw ahead by a gap."""

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
from dvae.scalars import Range, register_scalar

__all__ = ["GappedStraightThrough"]


class GappedStraightThrough(PathwiseEstimator):
    r"""A draw :math:`D = e_i \sim \pi` forward, a softmax with the draw ahead backward.

    The gradient is :math:`J(\mathrm{softmax}(\theta'/\tau)) g / \tau`. The drawn logit is raised to
    the largest, :math:`\theta'_i = \max \theta`, the others are lowered to a gap below or more,
    :math:`\theta'_j = \theta_j - \mathrm{relu}(\theta_j + \mathrm{gap} - \max \theta)`. The
    shifts carry no gradient. Biased.

    Args:
        tau: Temperature, above 0; a buffer that `Anneal` may move.
        gap: Distance in logits between the draw and the rest, at least 0; a buffer that
            `Anneal` may move.

    Raises:
        ValueError: A value outside its range.

    References:
        T. Fan, T. Chi, A. Rudnicky, P. Ramadge, 2022, arXiv 2206.07235, algorithm 1.
    """

    about = About(2022, "2206.07235", "biased")

    tau: Tensor
    gap: Tensor

    def __init__(self, tau: float = 1.0, gap: float = 1.0) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, TEMPERATURE)
        register_scalar(self, "gap", gap, Range(0.0))

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        detached = theta.detach()
        highest = detached.amax(-1, keepdim=True)
        lowered = detached - (detached + self.gap - highest).relu()
        shifted = lowered.scatter(-1, index.unsqueeze(-1), highest)
        backward = softmax(shifted / self.tau)
        return Draw(straight_through(logits, code, [backward], [self.tau.reciprocal()]), index)
