"""An exponential moving average of the weights, which is what is validated, tested and loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage", "check_average"]


class WeightAverage(WeightAveraging):
    r"""Average the weights after each step, and put the average in their place in validation.

    The average becomes :math:`d\,\bar w + (1 - d)\,w` with :math:`d = \min(D, (1 + t) / (10 + t))`
    at step t, so that a short run does not drag its first weights along. Training goes on with the
    weights themselves. The ``state_dict`` of a checkpoint has the average, which is what a load, a
    test and a fine-tuning take; what a resumed run needs is beside it. Buffers are those of the
    last step: what is counted or annealed is no weight.

    Args:
        decay: Most that is kept of the average in a step, D, above 0 and below 1.

    Raises:
        ValueError: ``decay`` is out of range.

    References:
        B. Polyak, A. Juditsky, 1992 (averaging); the lower decay of the first steps is that of
        TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema must be > 0 and < 1, or null for none; got {decay:g}")
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self.decay = decay
        self._now = 0.0
        self._is_swapped = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average, of a fit."""
        self._is_swapped = False
        if stage == "fit" and not trainer.global_step:
            self._latest_update_step = 0  # of an earlier run; one that goes on sets it after this
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Take in the weights of a step."""
        step = trainer.global_step
        self._now = min(self.decay, (1 + step) / (10 + step))
        super().on_train_batch_end(trainer, pl_module, *batch)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place of the weights."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._is_swapped = True

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._is_swapped = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save both; also where a validation was left within a batch, and they are swapped."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._is_swapped and "current_model_state" in checkpoint:
            average, weights = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint.update(state_dict=average, current_model_state=weights)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up both, where a fit goes on; a test by the same trainer has the average."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the weights as they are: a checkpoint of the last step may still be written."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model."""
        super().on_train_end(trainer, pl_module)

    def _average(self, averages: Any, weights: Any, count: Tensor | int) -> None:
        # By a step towards the weights, so that those that are frozen stay as they are to the bit.
        get_ema_multi_avg_fn(self._now)(averages, weights, count)


def check_average(path: Path, content: Mapping[str, Any], callbacks: Sequence[Any]) -> None:
    """Refuse to go on without the average, which a checkpoint has in place of the weights.

    Args:
        path: Path of the checkpoint.
        content: Content of the checkpoint.
        callbacks: Those of the run.

    Raises:
        ValueError: It has an average, and the run makes none.
    """
    averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if "current_model_state" in content and not averages:
        raise ValueError(
            f"{path} cannot be resumed without an average of the weights, which is what it has: "
            "give --ema as it was (--init_from takes over the average and starts afresh)"
        )
