"""What the host has to wait for."""

from torch import Tensor

__all__ = ["is_waited_for"]


def is_waited_for(tensor: Tensor) -> bool:
    """Tell whether reading a tensor's numbers makes the host wait for all that it has started.

    Args:
        tensor: Any.

    Returns:
        Whether it lies on an accelerator.
    """
    return tensor.device.type != "cpu"
