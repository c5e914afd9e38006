"""Negatively coupled Bernoulli draws and the weights that keep their gradient unbiased."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["arms_bits", "arms_debias", "disarm_gradient"]


def disarm_gradient(logit: Tensor, b: Tensor, b_anti: Tensor, difference: Tensor) -> Tensor:
    r"""Gradient of an antithetic pair.

    .. math:: \tfrac12 (f(b) - f(\tilde b)) (b - \tilde b)\, \sigma(|\phi|)

    Args:
        logit: Log-odds :math:`\phi` of a one.
        b: First draw in {0, 1}, :math:`1[u > 1 - \sigma(\phi)]`.
        b_anti: Its antithesis, :math:`1[u < \sigma(\phi)]` of the same u.
        difference: :math:`f(b) - f(\tilde b)`, broadcastable.

    Returns:
        Gradient in the log-odds.

    References:
        Z. Dong, A. Mnih, G. Tucker, 2020, arXiv 2006.10680, eq. 6.
    """
    return 0.5 * difference * (b - b_anti) * logit.abs().sigmoid()


def arms_bits(logit: Tensor, exponential: Tensor) -> Tensor:
    r"""Draw n Bernoulli bits, each pair of them as negatively correlated as it can be.

    With :math:`d = E / \sum E \sim \mathrm{Dirichlet}(1_n)` each :math:`u = (1 - d)^{n-1}` is
    uniform, and the rarer of the two values is taken where :math:`u < \min(p, 1 - p)`.

    Args:
        logit: Log-odds of a one, any shape.
        exponential: Standard exponential noise, ``(n, ...)``, n at least 2.

    Returns:
        Booleans ``(n, ...)``.

    References:
        A. Dimitriev, M. Zhou, 2021, arXiv 2105.14141, algorithm 1.
    """
    samples = exponential.shape[0]
    # The sums of the others are added up from both ends: `total - E` would lose the small ones.
    zero = torch.zeros_like(exponential[:1])
    before = torch.cat([zero, exponential[:-1]]).cumsum(0)
    after = torch.cat([zero, exponential.flip(0)[:-1]]).cumsum(0).flip(0)
    others = before + after
    log_u = (samples - 1) * (others.log() - (others + exponential).log())
    rare = log_u < F.logsigmoid(-logit.abs())
    return rare ^ (logit > 0)


def arms_debias(logit: Tensor, samples: int) -> Tensor:
    r"""Factor :math:`p(1-p) / (p - P[b_1 = b_2 = 1])` that undoes the coupling of `arms_bits`.

    With :math:`q = \min(p, 1-p)` and :math:`\rho = \max(2 q^{1/(n-1)} - 1, 0)^{n-1}` it is
    :math:`(1 - q) / (1 - \rho / q)` on both sides of one half.

    Args:
        logit: Log-odds of a one, any shape.
        samples: n, at least 2.

    Returns:
        The factor, within [0.5, 1].

    References:
        A. Dimitriev, M. Zhou, 2021, arXiv 2105.14141, theorem 1.
    """
    log_q = F.logsigmoid(-logit.abs())
    root = (log_q / (samples - 1)).exp()
    # rho / q = (2 - q^{-1/(n-1)})^{n-1} where positive: no division of two vanishing numbers.
    ratio = (2 - root.clamp_min(0.5).reciprocal()).pow(samples - 1)
    return (1 - log_q.exp()) / (1 - ratio)
