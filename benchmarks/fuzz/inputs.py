"""Random logits, and what is asked of every result."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.fuzz.tally import Failure

__all__ = ["DTYPES", "SCALES", "check_finite", "logits", "usable_logits"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SCALES = (0.0, 1e-30, 1e-3, 1.0, 30.0, 1e3, 3e4)


def logits(draw: random.Random, what: list[str], num_codes: int | None = None) -> Tensor:
    """Draw logits of any shape, type and scale, some with values that are no numbers.

    Args:
        draw: Randomness.
        what: Takes a description.
        num_codes: K; any by default.
    """
    k = draw.choice([1, 2, 2, 3, 5, 10, 33]) if num_codes is None else num_codes
    shape = [draw.choice([0, 1, 2, 5]), *(draw.choice([1, 2, 3]) for _ in range(draw.randrange(3)))]
    dtype, scale = draw.choice(DTYPES), draw.choice(SCALES)
    values = (torch.randn(*shape, k, dtype=torch.float64) * scale).to(dtype)
    special = draw.choice(["none"] * 6 + ["-inf", "nan", "inf", "row", "equal"])
    if values.numel():
        if special == "-inf" and k > 1:
            values[..., 0] = -torch.inf
        elif special in ("nan", "inf"):
            values.view(-1)[0] = float(special)
        elif special == "row":
            values[0] = -torch.inf
        elif special == "equal":
            values.fill_(values.view(-1)[0].item())
    what.append(f"logits {list(values.shape)} {dtype} scale {scale:g} {special}")
    return values.requires_grad_()


def usable_logits(draw: random.Random, what: list[str]) -> Tensor:
    """Draw logits that are no error of the caller's.

    Args:
        draw: Randomness.
        what: Takes a description.
    """
    # An infinite logit or a row that forbids everything is the caller's: the layers refuse it.
    # Such a draw would be no call, so another takes its place.
    while True:
        tried: list[str] = []
        values = logits(draw, tried)
        if values.numel() and values.detach().amax(-1).isfinite().all():
            what += tried
            return values


def check_finite(
    value: Tensor, leaf: Tensor | None = None, shape: Sequence[int] | None = None
) -> None:
    """Refuse a result or a gradient that is not finite, or of another shape.

    Args:
        value: The result.
        leaf: What it is differentiated by.
        shape: Shape that it should have.

    Raises:
        Failure: It is one of these.
    """
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise Failure(f"shape {tuple(value.shape)} instead of {tuple(shape)}")
    if not value.detach().isfinite().all():
        raise Failure("the result is not finite")
    if leaf is None or not value.requires_grad:
        return
    (grad,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if grad is not None and (grad.shape != leaf.shape or not grad.isfinite().all()):
        raise Failure("the gradient is not finite")
