"""The key `trainer.precision`, which may leave the choice to the machine: `auto`."""

import logging
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dvae.models.precision import AUTO, faster_precision

__all__ = ["Trainer", "settle_precision"]

log = logging.getLogger("dvae")


class Trainer(pl.Trainer):
    """Lightning's, whose key `precision` takes the word ``auto`` as well.

    Args:
        precision: Name of a precision, or ``auto``: bf16-mixed where a matrix unit multiplies
            bfloat16, 32-true elsewhere; float32 by default.
        kwargs: Arguments of Lightning's.
    """

    def __init__(self, *, precision: str | int | None = None, **kwargs: Any) -> None:
        if precision == AUTO:
            precision, _ = faster_precision(kwargs.get("accelerator", "auto"))
        super().__init__(precision=precision, **kwargs)  # type: ignore[arg-type]


def settle_precision(settings: Namespace) -> None:
    """Put the precision that ``auto`` stands for here in its place, and say it.

    So the config of a run has what it ran in, and repeats it on any machine.

    Args:
        settings: Below the key ``trainer``; changed in place.
    """
    if settings.get("precision") == AUTO:
        settings.precision, why = faster_precision(settings.accelerator)
        rank_zero_only(log.info)("trainer.precision auto: %s, as %s", settings.precision, why)
