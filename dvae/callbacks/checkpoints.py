"""The two checkpoints of a run: the last one and the best by the validation ELBO."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["Checkpoints"]


class Checkpoints(ModelCheckpoint):
    """Write ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` by ``val/elbo``.

    Where nothing was validated the best is the last. A run that ends within an epoch leaves a
    checkpoint of its last step too.
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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, unless nothing has been validated yet to tell the best by."""
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a checkpoint of the last step, also where it is not the end of an epoch."""
        super().on_train_end(trainer, pl_module)
        if self.dirpath is None:
            return
        if self._last_global_step_saved != trainer.global_step:
            self.last_model_path = str(Path(self.dirpath) / "last.ckpt")
            trainer.save_checkpoint(self.last_model_path)
        if not self.best_model_path:
            self.best_model_path = str(Path(self.dirpath) / "best.ckpt")
            trainer.save_checkpoint(self.best_model_path)


def _sizes(sizes: Any) -> list[Any]:
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
