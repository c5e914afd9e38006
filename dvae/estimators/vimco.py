r"""VIMCO: an unbiased gradient of the m-sample bound by leaving one draw out."""

import torch
from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand
from dvae.estimators.score_function import draw_codes, evaluate, leave_one_out, score_gradient
from dvae.functional import attach_gradient, iwae_bound, vimco_advantage
from dvae.scalars import check_count

__all__ = ["VIMCO"]


class VIMCO(Estimator):
    r"""The gradient :math:`\sum_s (\hat L - \hat L_{-s})(D_s - \pi)` of the bound of S draws.

    :math:`\hat L_{-s}` is the bound with the weight of draw s replaced by the geometric mean of
    the others. Unbiased; f need not be smooth. Of a plain expectation it is `RLOO`.

    Args:
        samples: Draws for each example of `expectation`, at least 2. `bound` takes its own
            number.

    Raises:
        ValueError: ``samples`` is below 2.

    References:
        A. Mnih, D. Rezende, 2016, arXiv 1602.06725, eq. 10 and 11.
    """

    about = About(2016, "1602.06725", "unbiased, the m-sample bound too")

    def __init__(self, samples: int = 4) -> None:
        super().__init__()
        check_count("VIMCO.samples", samples, 2)
        self.samples = samples

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at S draws; see `Estimator.expectation`."""
        return leave_one_out(f, logits, self.samples, generator)

    def bound(
        self, f: Integrand, logits: Tensor, samples: int, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at all draws in one call, at least 2 of them; see `Estimator.bound`."""
        check_count("samples of VIMCO's bound", samples, 2)
        codes = draw_codes(logits, samples, generator)
        log_weights = evaluate(f, codes.one_hot)
        with torch.no_grad():
            advantage = vimco_advantage(log_weights.to(codes.probs.dtype))
            gradient = score_gradient(codes, advantage)
        return attach_gradient(iwae_bound(log_weights), logits, gradient)
