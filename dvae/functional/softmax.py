"""Softmax and the product with its Jacobian, quick for few categories too."""

from typing import Any

import torch
from torch import Tensor

from dvae.functional.transformable import Transformable

__all__ = ["softmax", "softmax_jacobian"]

# On CPU torch's fused kernels go row by row below this width, eight times slower than four
# passes over the whole tensor (measured for K = 2 to 10 on 40,960 rows and fewer).
_NARROW = 16

# Read in torch 2.14. One pass over the tensor, which else only autograd can ask for.
_softmax_backward = torch.ops.aten._softmax_backward_data.default


class _NarrowSoftmax(Transformable):
    """Softmax written out in whole-tensor passes; differentiable any number of times."""

    @staticmethod
    def forward(scores: Tensor) -> Tensor:
        return _narrow_softmax(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (probs,) = ctx.saved_tensors
        return _narrow_jacobian(probs, grads[0])


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last axis.

    Args:
        scores: ``(..., K)``; ``-inf`` forbids a category, every row has a finite maximum.

    Returns:
        Points of the simplex ``(..., K)``.
    """
    if not _is_narrow(scores):
        return scores.softmax(-1)
    if scores.requires_grad:
        result: Tensor = _NarrowSoftmax.call(scores)
        return result
    return _narrow_softmax(scores)


def softmax_jacobian(probs: Tensor, grad: Tensor) -> Tensor:
    r"""Return :math:`J(p) g = p \odot g - p\,(p^\top g)`, what a softmax passes back.

    Args:
        probs: Points of the simplex ``(..., K)``.
        grad: The gradient g at them, of the same shape.
    """
    if not _is_narrow(probs):
        result: Tensor = _softmax_backward(grad, probs, -1, probs.dtype)
        return result
    return _narrow_jacobian(probs, grad)


def _narrow_jacobian(probs: Tensor, grad: Tensor) -> Tensor:
    weighted = probs * grad
    # Not by addcmul_, which is not quicker and which vmap does not know.
    return weighted.sub_(probs * weighted.sum(-1, keepdim=True))


def _narrow_softmax(scores: Tensor) -> Tensor:
    weight = (scores - scores.amax(-1, keepdim=True)).exp_()
    return weight.div_(weight.sum(-1, keepdim=True))


def _is_narrow(x: Tensor) -> bool:
    # A compiler fuses the passes by itself; and compiled by torch 2.11 the written-out backward
    # returned zeros.
    eager = not torch.compiler.is_compiling()
    return eager and x.shape[-1] < _NARROW and x.device.type == "cpu" and x.numel() > 0
