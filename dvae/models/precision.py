"""Which precisions there are, and where half precision is slower than single."""

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

__all__ = ["check_precision", "multiplies_bfloat16", "warn_of_bfloat16"]

# Likelihoods and noise are in float32, so the weights are too.
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_REFUSED = ("64", "64-true", "16-true", "bf16-true", "transformer-engine")


def check_precision(precision: object) -> None:
    """Refuse weights that are not in float32.

    Args:
        precision: Precision of a trainer, in any of Lightning's spellings.

    Raises:
        ValueError: It is another.
    """
    if str(precision).startswith(_REFUSED):
        allowed = ", ".join(_PRECISIONS)
        raise ValueError(f"trainer.precision must be one of {allowed}; got {precision}")


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
        precision: Precision of the trainer.
        device: Device of the training.
    """
    if str(precision) == "bf16-mixed" and device.type == "cpu" and not multiplies_bfloat16():
        rank_zero_warn(
            "this CPU has no bfloat16 instructions: trainer.precision bf16-mixed takes several "
            "times as long here as 32-true",
            category=UserWarning,
        )
