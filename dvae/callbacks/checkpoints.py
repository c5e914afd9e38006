"""The two checkpoints of a run: the last one and the best by the validation ELBO."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["Checkpoints"]


class Checkpoints(ModelCheckpoint):
    """Write ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` by ``val/elbo``.

    Without validation data the best is the last.
    """

    def __init__(self) -> None:
        super().__init__(
            filename="best",
            monitor="val/elbo",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give up the monitor where nothing will be validated."""
        super().on_train_start(trainer, pl_module)
        if not sum(_sizes(trainer.num_val_batches)):
            self.monitor = None


def _sizes(sizes: Any) -> list[Any]:
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
