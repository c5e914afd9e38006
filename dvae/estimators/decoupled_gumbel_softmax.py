r"""Straight-through Gumbel-softmax with one temperature for the draw, one for the gradient."""

from torch import Generator, Tensor

from dvae.estimators.base import (
    TEMPERATURE,
    About,
    Draw,
    PathwiseEstimator,
    check_draw,
    check_logits,
    gumbel_noise_like,
)
from dvae.functional import one_hot_like, softmax, straight_through
from dvae.scalars import register_scalar

__all__ = ["DecoupledGumbelSoftmax"]


class DecoupledGumbelSoftmax(PathwiseEstimator):
    r"""The draw :math:`\arg\max(\theta/\tau_f + G)` forward, :math:`J(s_b) g / \tau_b` backward.

    Here :math:`s_b = \mathrm{softmax}(\theta / \tau_b + G)` with the same noise. The paper
    divides the logits before the noise is added, so that the forward temperature matters to a
    hard draw: it makes the draw one of :math:`\mathrm{softmax}(\theta / \tau_f)`. Only at
    :math:`\tau_f = 1` is it a draw of the categorical itself, and a bound estimated at it one on
    log p(x). The gradient is biased.

    Args:
        tau_forward: Temperature of the draw, above 0; a buffer that `Anneal` may move.
        tau_backward: Temperature of the gradient, above 0; a buffer that `Anneal` may move.

    Raises:
        ValueError: A temperature is not a number above 0.

    References:
        R. Shah, M. Yan, M. Mozer, D. Liu, 2024, arXiv 2410.13331, algorithm 1.
    """

    about = About(2024, "2410.13331", "biased", temperature="tau_backward")

    tau_forward: Tensor
    tau_backward: Tensor

    def __init__(self, tau_forward: float = 1.0, tau_backward: float = 1.3) -> None:
        super().__init__()
        register_scalar(self, "tau_forward", tau_forward, TEMPERATURE)
        register_scalar(self, "tau_backward", tau_backward, TEMPERATURE)

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits).detach()
        noise = gumbel_noise_like(theta, generator)
        scores = theta / self.tau_forward + noise
        index = scores.argmax(-1)
        check_draw(scores, index)
        code = one_hot_like(logits, index)
        backward = softmax(theta.detach() / self.tau_backward + noise)
        weights = [self.tau_backward.reciprocal()]
        return Draw(straight_through(logits, code, [backward], weights), index)
