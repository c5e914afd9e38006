"""The mean of the categorical instead of a draw: what a plain softmax does."""

from torch import Generator, Tensor

from dvae.estimators.base import About, Draw, PathwiseEstimator, check_draw, check_logits

__all__ = ["MeanField"]


class MeanField(PathwiseEstimator):
    r"""The probabilities :math:`\pi` themselves go forward, with their own gradient.

    Nothing is drawn and nothing discrete is seen in training: the baseline that every estimator
    should beat once codes are hard. The index is the arg-max. In evaluation mode the layer is
    the arg-max, one-hot, as that of every other estimator.
    """

    about = About(source="softmax, no draw", bias="biased")

    def sample(self, logits: Tensor, generator: Generator | None = None) -> Draw:
        """Return the probabilities; see `PathwiseEstimator.sample`."""
        theta = check_logits(logits)
        index = theta.argmax(-1)
        check_draw(theta, index)
        return Draw(theta.softmax(-1).to(logits.dtype), index)
