"""What an optimizer forgets when parameters were written to behind its back."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["forget_moments"]


@torch.no_grad()
def forget_moments(optimizer: Optimizer, moved: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set an optimizer's averages of gradients to zero, as they were at its start.

    Everything that it keeps in the parameter's own shape is such an average: the moments of Adam
    and its relatives, the momentum of SGD. Its count of steps, a scalar, stays.

    Args:
        optimizer: Any of torch's.
        moved: Parameters, each with booleans over its first axis: which rows to forget.
    """
    for parameter, rows in moved:
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[rows] = 0
