"""A hard code with the gradient of zeroth and first order averaged: ZGR."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["zgr"]


class _ZGR(torch.autograd.Function):
    """Identity on the code; backward, the mean of straight-through and a rank-one term."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, code: Tensor, probs: Tensor) -> Tensor:
        ctx.save_for_backward(code, probs)
        ctx.dtype = logits.dtype
        return code.view_as(code)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        code, p = ctx.saved_tensors
        g = grads[0].to(p.dtype)
        score = code - p
        # g^T p and g^T (D - p) give both terms: J(p) g = p g - p (p^T g).
        mean = (p * g).sum(-1, keepdim=True)
        excess = (score * g).sum(-1, keepdim=True)
        total = 0.5 * (p * (g - mean) + excess * score)
        return total.to(ctx.dtype), None, None


def zgr(logits: Tensor, code: Tensor, probs: Tensor) -> Tensor:
    r"""Give a code the gradient :math:`\frac12[J(\pi) g + (g^\top(D - \pi))(D - \pi)]`.

    Args:
        logits: ``(..., K)``, where the gradient goes.
        code: One-hot draws D, ``(..., K)``.
        probs: Their probabilities :math:`\pi`, ``(..., K)``.

    Returns:
        ``code``, with the gradient.

    References:
        A. Shekhovtsov, 2023, *Cold analysis of Rao-Blackwellized straight-through
        Gumbel-softmax gradient estimator*, ICML.
    """
    return _ZGR.apply(logits, code, probs.detach())  # type: ignore[no-any-return]
