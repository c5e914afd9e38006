"""What the host has to wait for, and what its processor multiplies."""

from torch import Tensor

__all__ = ["BFLOAT16_INSTRUCTIONS", "is_waited_for"]

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2")
"""Names that `torch.cpu.get_capabilities` has for x86 instructions that multiply bfloat16."""


def is_waited_for(tensor: Tensor) -> bool:
    """Tell whether reading a tensor's numbers makes the host wait for all that it has started.

    Args:
        tensor: Any.

    Returns:
        Whether it lies on an accelerator.
    """
    return tensor.device.type != "cpu"
