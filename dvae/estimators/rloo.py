r"""REINFORCE with the other draws of the same example as baseline."""

from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand
from dvae.estimators.score_function import leave_one_out
from dvae.scalars import check_count

__all__ = ["RLOO"]


class RLOO(Estimator):
    r"""The gradient :math:`\frac1S \sum_s (f_s - \frac1{S-1} \sum_{r \ne s} f_r)(D_s - \pi)`.

    Unbiased; f need not be smooth and is evaluated at all S draws in one call.

    Args:
        samples: Draws S for each example, at least 2.

    Raises:
        ValueError: ``samples`` is below 2.

    References:
        W. Kool, H. van Hoof, M. Welling, 2019, *Buy 4 REINFORCE samples, get a baseline for
        free*; A. Mnih, D. Rezende, 2016, arXiv 1602.06725.
    """

    about = About(2019, "Kool et al.", "unbiased")

    def __init__(self, samples: int = 4) -> None:
        super().__init__()
        check_count("RLOO.samples", samples, 2)
        self.samples = samples

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at S draws; see `Estimator.expectation`."""
        return leave_one_out(f, logits, self.samples, generator)
