"""Give a value a gradient that was computed elsewhere, whatever graph the value has itself."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

__all__ = ["attach_gradient", "attach_own_gradients"]


class _Gradient(Function):
    """Identity on the value; backward, the upstream gradient times a stored one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        (gradient,) = ctx.saved_tensors
        upstream = grad.reshape(-1, *(1,) * (gradient.dim() - 1))
        return grad, (upstream * gradient).to(ctx.dtype), None


class _OwnGradients(Function):
    """Identity on the value; backward, each parameter gets its stored gradient unscaled."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *own: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (grads[0], None, *ctx.saved_tensors)


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
    return _Gradient.apply(value, logits, gradient.detach())  # type: ignore[no-any-return]


def attach_own_gradients(
    value: Tensor, own: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Tensor:
    """Return the value unchanged; any backward pass through it hands out the given gradients.

    The gradients do not depend on the sign or the scale of what arrives from upstream: the
    parameters are trained by a rule of their own, whatever is done with the value.

    Args:
        value: Any shape.
        own: The parameters.
        gradients: The gradient of each of them.

    Returns:
        ``value``.
    """
    detached = tuple(gradient.detach() for gradient in gradients)
    return _OwnGradients.apply(value, detached, *own)  # type: ignore[no-any-return]
