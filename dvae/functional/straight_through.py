r"""A hard code forward, the gradient of softmaxes backward: the whole straight-through family."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from dvae.functional.softmax import softmax_jacobian

__all__ = ["one_hot_like", "straight_through"]


def one_hot_like(logits: Tensor, index: Tensor) -> Tensor:
    """Write a code as one-hot vectors in the shape and dtype of its logits.

    Args:
        logits: ``(..., K)``.
        index: Integer categories ``(...)``.

    Returns:
        One-hot vectors ``(..., K)``, without a gradient.
    """
    return torch.zeros_like(logits, requires_grad=False).scatter_(-1, index.unsqueeze(-1), 1.0)


class _StraightThrough(torch.autograd.Function):
    """Identity on the code; backward, a weighted sum of softmax Jacobians."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        code: Tensor,
        weights: tuple[Tensor | float, ...],
        *probs: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*probs)
        ctx.weights = weights  # type: ignore[attr-defined]
        ctx.dtype = logits.dtype  # type: ignore[attr-defined]
        return code.view_as(code)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        total: Tensor | None = None
        for p, weight in zip(ctx.saved_tensors, ctx.weights, strict=True):
            part = softmax_jacobian(p, grad.to(p.dtype).expand_as(p))
            if part.dim() > grad.dim():  # an average over a leading axis of relaxed samples
                part = part.mean(0)
            part.mul_(weight)
            total = part if total is None else total.add_(part)
        assert total is not None
        return (total.to(ctx.dtype), None, None, *(None for _ in ctx.saved_tensors))


def straight_through(
    logits: Tensor,
    code: Tensor,
    probs: Sequence[Tensor],
    weights: Sequence[Tensor | float],
) -> Tensor:
    r"""Give a hard code the gradient :math:`\sum_i w_i J(p_i) g` in the logits.

    :math:`J(p) = \mathrm{diag}(p) - p p^\top` is the Jacobian of a softmax and :math:`g` the
    gradient that arrives at the code. Only the probabilities are kept for the backward pass.

    Args:
        logits: ``(..., K)``, where the gradient goes.
        code: The value that goes forward, ``(..., K)``.
        probs: Points of the simplex, each ``(..., K)``, or ``(S, ..., K)`` for an average of
            the Jacobian over S of them; no gradient flows through them.
        weights: A factor for each of ``probs``.

    Returns:
        ``code``, with the gradient.

    References:
        Y. Bengio, N. Leonard, A. Courville, 2013, arXiv 1308.3432.
    """
    detached = tuple(p.detach() for p in probs)
    return _StraightThrough.apply(logits, code, tuple(weights), *detached)  # type: ignore[no-any-return]
