"""Log-densities of images given the output of a decoder, in nats."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.functional.transformable import Transformable

__all__ = [
    "bernoulli_log_prob",
    "discretized_logistic_log_prob",
    "gaussian_log_prob",
    "laplace_log_prob",
]


class _BernoulliLogProb(Transformable):
    """softplus(l) as max(l, 0) - log sigmoid(|l|): a fifth of the time of torch's on a CPU.

    The logarithm is of a number in [1/2, 1], so the error is one rounding of 1, as that of the
    product beside it. The gradient is written out: the parts have none at 0.
    """

    @staticmethod
    def forward(logits: Tensor, x: Tensor) -> Tensor:
        softplus = logits.clamp_min(0).sub_(logits.abs().sigmoid_().log_())
        return x * logits - softplus

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, x = ctx.saved_tensors
        of_logits = ((x - logits.sigmoid()) * grads[0]).sum_to_size(logits.shape)
        of_x = (logits * grads[0]).sum_to_size(x.shape) if ctx.needs_input_grad[1] else None
        return of_logits, of_x


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    r"""Bernoulli log-likelihood :math:`x\,l - \mathrm{softplus}(l)` of each pixel.

    Args:
        logits: Log-odds :math:`l` of a white pixel, any shape.
        x: Pixels in [0, 1], broadcastable with ``logits``. A real value between the two is the
            grayscale protocol: minus the cross-entropy, not a normalised density.

    Returns:
        Nats per pixel, the broadcast shape, in float32 or wider.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    result: Tensor = _BernoulliLogProb.call(logits, x)
    return result


def gaussian_log_prob(mean: Tensor, log_sigma: Tensor | float, x: Tensor) -> Tensor:
    r"""Log-density :math:`-\tfrac12 ((x - \mu)/\sigma)^2 - \log\sigma - \tfrac12\log 2\pi`.

    Args:
        mean: Any shape.
        log_sigma: Logarithm of the standard deviation, broadcastable with ``mean``.
        x: Real values, broadcastable with ``mean``.

    Returns:
        Nats per value, the broadcast shape.
    """
    # A number stays one: made a tensor of a GPU, it would be a copy that the host waits for.
    inverse = torch.exp(-log_sigma) if isinstance(log_sigma, Tensor) else math.exp(-log_sigma)
    scaled = (x - mean) * inverse
    return -0.5 * scaled.square() - log_sigma - 0.5 * math.log(2 * math.pi)


def laplace_log_prob(mean: Tensor, log_scale: Tensor, x: Tensor) -> Tensor:
    r"""Log-density :math:`-|x - \mu|/b - \log 2b`.

    Args:
        mean: Any shape.
        log_scale: :math:`\log b`, broadcastable with ``mean``.
        x: Real values, broadcastable with ``mean``.

    Returns:
        Nats per value, the broadcast shape.
    """
    return -(x - mean).abs() * (-log_scale).exp() - log_scale - math.log(2)


def discretized_logistic_log_prob(
    mean: Tensor, log_scale: Tensor, x: Tensor, levels: int
) -> Tensor:
    r"""Log-mass of a logistic variable rounded to levels, the two tails included at the ends.

    The mass between the edges :math:`a > b` (in units of the scale) is written as
    :math:`\sigma(a) - \sigma(b) = \sigma(a)\,\sigma(-b)\,(1 - e^{b - a})`, which loses no digits
    anywhere: the usual difference of two sigmoids is 0 in the tails and needs an approximation.

    Args:
        mean: Any shape, on the scale of ``x``.
        log_scale: Logarithm of the scale, broadcastable with ``mean``.
        x: Multiples of ``1 / (levels - 1)`` in [0, 1], broadcastable with ``mean``.
        levels: Number of values a pixel takes, at least 2.

    Returns:
        Nats per value, the broadcast shape; over all levels they sum to probability one.

    References:
        T. Salimans, A. Karpathy, X. Chen, D. Kingma, 2017, arXiv 1701.05517, eq. 2.
    """
    half = 0.5 / (levels - 1)
    inverse = (-log_scale).exp()
    upper = F.logsigmoid((x + half - mean) * inverse)
    lower = F.logsigmoid((mean - x + half) * inverse)
    width = (-torch.expm1(-2 * half * inverse)).log()
    inside = upper + lower + width
    return torch.where(x < half, upper, torch.where(x > 1 - half, lower, inside))
