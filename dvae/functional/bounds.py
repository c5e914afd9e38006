"""Lower bounds on the log-likelihood from importance weights, and their mean over examples."""

import math

from torch import Tensor

__all__ = ["batch_mean", "iwae_bound"]


def batch_mean(values: Tensor) -> Tensor:
    """Average over the examples of a batch; of none it is 0, and no NaN.

    Args:
        values: ``(B,)``.

    Returns:
        ``()``.
    """
    return values.sum() / max(len(values), 1)


def iwae_bound(log_weights: Tensor, dim: int = 0) -> Tensor:
    r"""Importance-weighted bound :math:`\log \frac1m \sum_{s=1}^m w_s`.

    Args:
        log_weights: :math:`\log w = \log p(x, z) - \log q(z \mid x)` of m draws, in nats.
        dim: The axis of the draws.

    Returns:
        Nats, the shape without ``dim``. With one draw it is the ELBO's estimate; its expectation
        never falls as m grows and never passes :math:`\log p(x)`.

    References:
        Y. Burda, R. Grosse, R. Salakhutdinov, 2016, arXiv 1509.00519, eq. 8.
    """
    return log_weights.logsumexp(dim) - math.log(log_weights.shape[dim])
