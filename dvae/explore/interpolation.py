"""From one code to another, place by place."""

import torch
from torch import Tensor

__all__ = ["between"]


def between(first: Tensor, last: Tensor, count: int, seed: int = 0) -> Tensor:
    """Let the places in which two codes differ pass from one to the other, in a random order.

    Every step is a code that the decoder knows, which a mean of two codes is not.

    Args:
        first: Code to begin with, integers of any shape.
        last: Code to end with.
        count: Steps, both ends among them, at least 2.
        seed: Seed of the order.

    Returns:
        Codes ``(count, ...)``.

    Raises:
        ValueError: The codes are of different shapes.
    """
    if first.shape != last.shape:
        sizes = ["x".join(map(str, code.shape)) for code in (first, last)]
        raise ValueError(f"both codes must have one shape; got {' and '.join(sizes)}")
    differ = (first != last).view(-1).nonzero().view(-1)
    order = differ[torch.randperm(len(differ), generator=torch.Generator().manual_seed(seed))]
    steps = first.repeat(count, *[1] * first.dim())
    for step, code in enumerate(steps):
        passed = order[: round(step * len(order) / (count - 1))]
        code.view(-1)[passed] = last.reshape(-1)[passed]
    return steps
