"""Give a value a gradient that was computed elsewhere, whatever graph the value has itself."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from dvae.functional.pull_back import with_pull_back

__all__ = ["attach_gradient", "attach_own_gradients"]


class _OwnGradients(Function):
    """Identity on the value; backward, the parameters get what a function makes of its gradient."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, pull: Callable[[Tensor], Sequence[Tensor]], *own: Tensor
    ) -> Tensor:
        ctx.pull = pull
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (grads[0], None, *ctx.pull(grads[0]))


def attach_gradient(value: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
    """Return the value unchanged, with a given gradient in the logits on top of its own graph.

    Unlike the surrogate ``(score * logits).sum()`` it has no product of 0 and a forbidden
    category's ``-inf``, and keeps one tensor for the backward pass.

    Args:
        value: ``(B,)``.
        logits: ``(B, ..., K)``, where the gradient goes.
        gradient: Gradient of each example's value in its logits, ``(B, ..., K)``.

    Returns:
        ``value``.
    """
    return with_pull_back(value, logits, _times_upstream, gradient)


def _times_upstream(grad: Tensor, gradient: Tensor) -> Tensor:
    return grad.reshape(-1, *(1,) * (gradient.dim() - 1)) * gradient


def attach_own_gradients(value: Tensor, own: Sequence[Tensor], cost: Tensor) -> Tensor:
    r"""Return the value unchanged; a backward pass through it lets parameters descend a cost.

    An example counts with its weight in the loss, whatever the sign: where :math:`w_b` arrives at
    value b, the parameters get :math:`\sum_b |w_b| \nabla c_b`. So their gradient follows a
    scaled loss, and adds up over parts of a batch, as every other gradient does. Nothing else
    that the cost depends on gets a gradient.

    Args:
        value: ``(B,)``.
        own: The parameters, each a part of the cost.
        cost: c, for each example, ``(B,)``. Its graph is kept as long as that of the result.

    Returns:
        ``value``.
    """

    def pull(grad: Tensor) -> Sequence[Tensor]:
        # The graph stays: the result may be differentiated again.
        return torch.autograd.grad(cost, own, grad.abs().to(cost.dtype), retain_graph=True)

    return _OwnGradients.apply(value, pull, *own)  # type: ignore[no-any-return]
