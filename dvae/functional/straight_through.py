r"""A hard code forward, the gradient of softmaxes backward: the whole straight-through family."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dvae.functional.pull_back import with_pull_back
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
    # Not in place, which vmap does one by one.
    return torch.zeros_like(logits, requires_grad=False).scatter(-1, index.unsqueeze(-1), 1.0)


def straight_through(
    logits: Tensor, code: Tensor, probs: Sequence[Tensor], weights: Sequence[Tensor | float]
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
    numbers = [None if isinstance(weight, Tensor) else weight for weight in weights]
    tensors = [weight for weight in weights if isinstance(weight, Tensor)]
    rule = partial(_sum_of_jacobians, numbers)
    return with_pull_back(code.detach(), logits, rule, *probs, *tensors)


def _sum_of_jacobians(numbers: Sequence[float | None], grad: Tensor, *saved: Tensor) -> Tensor:
    """Sum the Jacobians' products; weights that are tensors come after the probabilities."""
    tensors = iter(saved[len(numbers) :])
    total: Tensor | None = None
    for p, number in zip(saved, numbers, strict=False):
        part = softmax_jacobian(p, grad.to(p.dtype).expand_as(p))
        if part.dim() > grad.dim():  # an average over a leading axis of relaxed samples
            part = part.mean(0)
        part.mul_(next(tensors) if number is None else number)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
