r"""ARMS: DisARM's antithetic coupling for any number of binary draws."""

import torch
from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand, exponential_noise
from dvae.estimators.binary import log_odds, pair_codes, pair_gradient
from dvae.estimators.score_function import evaluate
from dvae.functional import arms_bits, arms_debias, attach_gradient, leave_one_out_advantage
from dvae.scalars import check_count

__all__ = ["ARMS"]


class ARMS(Estimator):
    r"""Leave-one-out over n draws that avoid each other, corrected for their coupling.

    The draws are coupled by a Dirichlet copula and the gradient in the log-odds is

    .. math:: \frac{p(1-p)}{p - P[b_1 = b_2 = 1]}
        \frac1n \sum_i \Big(f_i - \frac1{n-1} \sum_{j \ne i} f_j\Big)(b_i - p).

    Unbiased, for K = 2 only; f need not be smooth. With two samples it is `DisARM` in
    expectation and variance.

    Args:
        samples: Draws n for each example, at least 2.

    Raises:
        ValueError: ``samples`` is below 2.

    References:
        A. Dimitriev, M. Zhou, 2021, arXiv 2105.14141.
    """

    about = About(2021, "2105.14141", "unbiased; K = 2")

    def __init__(self, samples: int = 4) -> None:
        super().__init__()
        check_count("ARMS.samples", samples, 2)
        self.samples = samples

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at n coupled draws; see `Estimator.expectation`."""
        phi = log_odds(type(self).__name__, logits)
        exponential = exponential_noise((self.samples, *phi.shape), phi, generator)
        bits = arms_bits(phi, exponential)
        values = evaluate(f, pair_codes(bits, logits.dtype))
        with torch.no_grad():
            advantage = leave_one_out_advantage(values.to(phi.dtype)) / self.samples
            advantage = advantage.reshape(*values.shape, *(1,) * (phi.dim() - 1))
            score = (advantage * (bits.to(phi.dtype) - phi.sigmoid())).sum(0)
            gradient = pair_gradient(score * arms_debias(phi, self.samples))
        return attach_gradient(values.mean(0), logits, gradient)
