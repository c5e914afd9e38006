"""Control variates that a draw gets from the other draws of the same example."""

import math

import torch
from torch import Tensor

__all__ = ["leave_one_out_advantage", "vimco_advantage"]


def leave_one_out_advantage(values: Tensor) -> Tensor:
    r"""What each value exceeds the mean of the others by.

    .. math:: f_s - \tfrac1{S-1} \sum_{r \ne s} f_r

    Args:
        values: S independent draws in the first axis, ``(S, ...)``, S at least 2.

    Returns:
        The differences, ``(S, ...)``, in the unit of the values.

    References:
        W. Kool, H. van Hoof, M. Welling, 2019, *Buy 4 REINFORCE samples, get a baseline for
        free*, eq. 8.
    """
    samples = values.shape[0]
    return (values - values.mean(0)) * (samples / (samples - 1))


def vimco_advantage(log_weights: Tensor) -> Tensor:
    r"""What each draw adds to the m-sample bound, :math:`\hat L - \hat L_{-s}`.

    :math:`\hat L = \log \frac1S \sum_r w_r`, and :math:`\hat L_{-s}` is the same with
    :math:`w_s` replaced by the geometric mean of the other weights.

    Args:
        log_weights: :math:`\log w`, S independent draws in the first axis, ``(S, ...)``, S at
            least 2, in nats.

    Returns:
        Nats, ``(S, ...)``.

    References:
        A. Mnih, D. Rezende, 2016, arXiv 1602.06725, eq. 10 and 11.
    """
    samples = log_weights.shape[0]
    others = log_weights - leave_one_out_advantage(log_weights)
    # S x S weights and a plain log-sum-exp: taking one weight out of a sum in log space loses
    # every digit where that weight is the largest.
    diagonal = torch.eye(samples, dtype=torch.bool, device=log_weights.device)
    diagonal = diagonal.view(samples, samples, *(1,) * (log_weights.dim() - 1))
    replaced = torch.where(diagonal, others.unsqueeze(1), log_weights.unsqueeze(0))
    bound = log_weights.logsumexp(0) - math.log(samples)
    return bound - (replaced.logsumexp(1) - math.log(samples))
