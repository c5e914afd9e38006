"""A value with a gradient of one's own, which `torch.func` can transform as it does torch's own."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dvae.functional.transformable import Transformable

__all__ = ["with_pull_back"]

Rule = Callable[..., Tensor]


class _Identity(Transformable):
    """Identity on the value; backward, a rule."""

    @staticmethod
    def forward(value: Tensor, target: Tensor, rule: Rule, *saved: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, target, ctx.rule, *saved = inputs
        ctx.save_for_backward(*saved)
        ctx.dtype = target.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        found: Tensor | None = None
        if ctx.needs_input_grad[1]:
            found = _Once.call(ctx.rule, grads[0], *saved).to(ctx.dtype)
        return (grads[0], found, None, *(None for _ in saved))


class _Once(Transformable):
    """A rule without a derivative of its own.

    It is refused here, since under `torch.func` autograd's `once_differentiable` makes it zeros.
    """

    @staticmethod
    def forward(rule: Rule, *tensors: Tensor) -> Tensor:
        return rule(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "the gradient of a discrete draw is an estimate, which has no derivative of its own: "
            "take first derivatives only"
        )


def with_pull_back(value: Tensor, target: Tensor, rule: Rule, *saved: Tensor) -> Tensor:
    """Return the value unchanged, with a gradient in another tensor on top of its own graph.

    First derivatives only, by autograd or by `torch.func` (grad, vmap, jacrev and their
    compositions).

    Args:
        value: Any shape.
        target: Where the gradient goes.
        rule: Takes the gradient that arrives at the value and the saved tensors, returns the one in
            the target; made of operations of torch.
        saved: Kept for the backward pass; no gradient flows into them.

    Returns:
        ``value``.
    """
    detached = (tensor.detach() for tensor in saved)
    result: Tensor = _Identity.call(value, target, rule, *detached)
    return result
