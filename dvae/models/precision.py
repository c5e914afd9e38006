"""Which precisions there are, and where half precision is slower or faster than single."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from dvae.devices import multiplies_bfloat16
from dvae.models.gradients import loss_scaler

__all__ = [
    "AUTO",
    "PRECISIONS",
    "check_precision",
    "faster_precision",
    "prepare_precision",
    "say_other_precision",
    "warn_of_bfloat16",
]

log = logging.getLogger("dvae")

# Likelihoods and noise are in float32, so the weights are too.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
AUTO = "auto"
"""What the command line takes for the precision that `faster_precision` chooses."""
# The scale of the loss that torch starts from.
_SCALE = 65536.0
_SHORT = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def check_precision(precision: object, allowed: Sequence[str] = PRECISIONS) -> None:
    """Refuse weights that are not in float32.

    Args:
        precision: Precision of a trainer, in any of Lightning's spellings; None for its default.
        allowed: Names of those that are allowed.

    Raises:
        ValueError: It is another.
    """
    if precision is not None and _SHORT.get(str(precision), precision) not in allowed:
        names = ", ".join(allowed)
        raise ValueError(f"trainer.precision must be one of {names}; got {precision}")


def faster_precision(accelerator: object) -> tuple[str, str]:
    """Choose bfloat16 where a matrix unit multiplies it, as on GPUs since Ampere and CPUs with AMX.

    Vector instructions alone (AVX-512) are not enough to choose it.

    Args:
        accelerator: Accelerator of the trainer, by Lightning's name or ``auto``.

    Returns:
        The precision, and why.
    """
    on_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed", "this GPU multiplies matrices in bfloat16"
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not on_gpu)
    if on_cpu and torch.cpu.get_capabilities().get("amx_bf16"):
        return "bf16-mixed", "this CPU multiplies matrices in bfloat16 (AMX)"
    return "32-true", "no unit here is known to multiply matrices in bfloat16"


def say_other_precision(path: object, content: Mapping[str, Any], precision: str) -> None:
    """Say it where a training goes on in another precision than before.

    Args:
        path: Path of its checkpoint.
        content: Content of the checkpoint; older ones do not know their precision.
        precision: Precision of the trainer.
    """
    before = content.get("precision", precision)
    if before != precision:
        log.warning(
            "%s was trained in %s and goes on in %s, whose digits are others "
            "(--trainer.precision %s goes on exactly)",
            *(path, before, precision, before),
        )


def warn_of_bfloat16(precision: str, device: torch.device) -> None:
    """Warn where bfloat16 is emulated: training is right there, and many times slower.

    Args:
        precision: Precision of the trainer.
        device: Device of the training.
    """
    # Where torch does not say, nothing is known to be slow.
    emulated = device.type == "cpu" and multiplies_bfloat16() is False
    if str(precision) == "bf16-mixed" and emulated:
        rank_zero_warn(
            "this CPU has no bfloat16 instructions: trainer.precision bf16-mixed takes several "
            "times as long here as 32-true",
            category=UserWarning,
        )


def prepare_precision(trainer: Trainer, numbers: int) -> None:
    """Warn of bfloat16 that is emulated, and start float16's scale where gradients fit.

    torch starts the scale of the loss for a mean over what there is to predict. Ours is the sum, so
    its gradients are larger by about their number. Each halving of the scale leaves a step out
    while schedules go on: of ``mnist_codebook`` nine, all the warm-up of a run of 200 steps, whose
    reconstruction then was worse by 118 nats (over 860 steps nothing was lost). A scale that
    somebody gave is kept, and one of a checkpoint comes after this.

    Args:
        trainer: Trainer of a fit that begins.
        numbers: Numbers of an event.
    """
    warn_of_bfloat16(trainer.precision, trainer.strategy.root_device)
    scaler = loss_scaler(trainer)
    if scaler is not None and scaler.get_scale() == _SCALE:
        scale = max(1.0, 2.0 ** math.floor(math.log2(_SCALE / numbers)))
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale})
