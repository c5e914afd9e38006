"""Says where half precision is slower than single."""

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

__all__ = ["multiplies_bfloat16", "warn_of_bfloat16"]


def multiplies_bfloat16() -> bool:
    """Tell whether this CPU has instructions that multiply bfloat16, as far as torch knows."""
    found = torch.cpu.get_capabilities()
    # Of other architectures torch says less, and nothing is known to be slow there.
    return found.get("architecture") != "x86_64" or any(
        found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "avx10_2")
    )


def warn_of_bfloat16(precision: str, device: torch.device) -> None:
    """Warn where bfloat16 is emulated: training is right there, and many times slower.

    Args:
        precision: Of the trainer.
        device: Of the training.
    """
    if str(precision) == "bf16-mixed" and device.type == "cpu" and not multiplies_bfloat16():
        rank_zero_warn(
            "this CPU has no bfloat16 instructions: trainer.precision bf16-mixed takes several "
            "times as long here as 32-true",
            category=UserWarning,
        )
