r"""DisARM: an antithetic pair of binary draws instead of a baseline."""

import torch
from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand, gumbel_noise_like
from dvae.estimators.binary import log_odds, pair_codes, pair_gradient
from dvae.estimators.score_function import evaluate
from dvae.functional import attach_gradient, disarm_gradient

__all__ = ["DisARM"]


class DisARM(Estimator):
    r"""The gradient :math:`\frac12 (f(b) - f(\tilde b)) (b - \tilde b)\, \sigma(|\phi|)`.

    The two draws share their noise with opposite sign. Unbiased, for K = 2 only; f need not be
    smooth. Also known as U2G.

    References:
        Z. Dong, A. Mnih, G. Tucker, 2020, arXiv 2006.10680; M. Yin, N. Ho, B. Yan, X. Qian,
        M. Zhou, 2020, arXiv 2006.02448.
    """

    about = About(2020, "2006.10680", "unbiased; K = 2")

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at the pair of draws; see `Estimator.expectation`."""
        phi = log_odds(type(self).__name__, logits)
        # The difference of two Gumbels is logistic, log u - log(1 - u), and keeps both tails.
        zero, one = gumbel_noise_like(logits.detach(), generator).unbind(-1)
        noise = one - zero
        bits = torch.stack([phi + noise > 0, phi - noise > 0])
        values = evaluate(f, pair_codes(bits, logits.dtype))
        with torch.no_grad():
            difference = (values[0] - values[1]).to(phi.dtype)
            difference = difference.reshape(-1, *(1,) * (phi.dim() - 1))
            b, b_anti = bits.to(phi.dtype).unbind(0)
            gradient = pair_gradient(disarm_gradient(phi, b, b_anti, difference))
        return attach_gradient(values.mean(0), logits, gradient)
