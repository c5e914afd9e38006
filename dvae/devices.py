"""What the host has to wait for, and what its processor multiplies."""

import torch
from torch import Tensor

__all__ = ["BFLOAT16_INSTRUCTIONS", "is_waited_for", "multiplies_bfloat16"]

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2")
"""Names that `torch.cpu.get_capabilities` has for x86 instructions that multiply bfloat16."""


def multiplies_bfloat16() -> bool | None:
    """Tell whether this CPU has instructions that multiply bfloat16.

    Returns:
        Whether it has; None where torch does not say, as on other architectures than x86.
    """
    found = torch.cpu.get_capabilities()
    if found.get("architecture") != "x86_64":
        return None
    return any(found.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def is_waited_for(tensor: Tensor) -> bool:
    """Tell whether reading a tensor's numbers makes the host wait for all that it has started.

    Args:
        tensor: Any.

    Returns:
        Whether it lies on an accelerator.
    """
    return tensor.device.type != "cpu"
