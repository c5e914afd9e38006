r"""Minimum-variance estimators: a family from straight-through to exact on quadratics."""

from torch import Generator, Tensor

from dvae.estimators.base import About, Draw, PathwiseEstimator, check_logits, draw_index
from dvae.functional import minimum_variance, one_hot_like, softmax
from dvae.scalars import Range, register_scalar

__all__ = ["MinimumVariance"]

# Past it the system that the backward pass solves is singular to float64's last digits.
_HIGHEST_T = 1e8

# The backward pass writes a K x K matrix in float64 for every variable.
_MOST_CODES = 1024


class MinimumVariance(PathwiseEstimator):
    r"""A draw forward; backward, a matrix of the draw that trades bias for variance by t.

    At t = 0 it is `StraightThrough`, as :math:`t \to \infty` exact for every quadratic f; for
    linear f it is exact at every t. The backward pass solves one K x K system for each variable.

    Args:
        t: Weight of the bias against the variance, within [0, 1e8]; a buffer that `Anneal` may
            move.

    Raises:
        ValueError: ``t`` is outside its range, or, on a call, K is above 1024.

    References:
        D. Hooper, A. Shekhovtsov, 2026.
    """

    about = About(2026, "Hooper, Shekhovtsov", "biased; exact for linear f")

    t: Tensor

    def __init__(self, t: float = 1.0) -> None:
        super().__init__()
        register_scalar(self, "t", t, Range(0.0, high=_HIGHEST_T))

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Draw a one-hot code; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        if theta.shape[-1] > _MOST_CODES:
            raise ValueError(
                f"MinimumVariance solves a K x K system for each variable; K must be at most "
                f"{_MOST_CODES}, got {theta.shape[-1]}"
            )
        index = draw_index(theta, generator)
        code = one_hot_like(logits, index)
        probs = softmax(theta.detach())
        return Draw(minimum_variance(logits, code, index, probs, self.t), index)
