r"""The Gumbel-softmax layer: a categorical draw made differentiable by a temperature."""

from torch import Generator, Tensor

from dvae.estimators.base import (
    TEMPERATURE,
    About,
    Draw,
    PathwiseEstimator,
    check_logits,
    check_top,
    gumbel_noise_like,
)
from dvae.functional import one_hot_like, softmax, straight_through
from dvae.scalars import register_scalar

__all__ = ["GumbelSoftmax"]


class GumbelSoftmax(PathwiseEstimator):
    r"""Relaxed draws :math:`s = \mathrm{softmax}((\theta + G) / \tau)` with their own gradient.

    With ``hard`` the arg-max of s goes forward, one-hot (an exact categorical draw, whatever the
    temperature), and the gradient of s backward: the straight-through Gumbel-softmax. The
    gradient is biased; the bias vanishes as :math:`\tau \to 0` while the variance explodes.

    Args:
        tau: Temperature, above 0; a buffer that `Anneal` may move.
        hard: Whether the code is one-hot.

    Raises:
        ValueError: ``tau`` is not a number above 0.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, eq. 2 and section 2.2; C. Maddison,
        A. Mnih, Y. W. Teh, 2017, arXiv 1611.00712.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> layer = GumbelSoftmax(tau=0.5, hard=True)
        >>> draw = layer(torch.zeros(2, 3))
        >>> draw.code.sum(-1)
        tensor([1., 1.])
    """

    about = About(
        2017, "1611.01144, 1611.00712", "biased", variants={"": {}, "hard": {"hard": True}}
    )

    tau: Tensor

    def __init__(self, tau: float = 1.0, hard: bool = False) -> None:
        super().__init__()
        register_scalar(self, "tau", tau, TEMPERATURE)
        self.hard = hard

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a relaxed or a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        if not self.hard:
            scores = gumbel_noise_like(theta, generator) + theta
            top, index = scores.detach().max(-1)
            check_top(top)
            return Draw(softmax(scores / self.tau).to(logits.dtype), index)
        # In place where nobody looks: each pass over (4096, 512) costs as much as a softmax.
        scores = gumbel_noise_like(theta, generator).add_(theta.detach())
        top, index = scores.max(-1)
        check_top(top)
        relaxed = softmax(scores.div_(self.tau))
        code = one_hot_like(logits, index)
        return Draw(straight_through(logits, code, [relaxed], [self.tau.reciprocal()]), index)
