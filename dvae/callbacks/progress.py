"""A progress bar that costs the training loop nothing."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn

from dvae.callbacks.progress_lines import Pace
from dvae.devices import is_waited_for
from dvae.doing import in_words
from dvae.models.logging import was_logged

__all__ = ["ProgressBar"]

_PER_SECOND = 2


class ProgressBar(RichProgressBar):
    """Lightning's bar, brought up to date twice a second instead of at every step.

    A step of a small model takes 15 ms, and the bar's metrics alone half a millisecond of it. The
    training bound is that of the step at hand, also where the loggers get only every fiftieth; on
    an accelerator, where reading it means waiting, that of the last step that is logged.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=_PER_SECOND)
        self._updated = float("-inf")
        self._pace = Pace()
        self._shown: dict[str, int | str | float | dict[str, float]] = {}

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what is shown, with the bound of the last batch, nats per example.

        And how long the training still takes.
        """
        if trainer.training and self._shown and _waits(trainer, pl_module):
            return self._shown
        self._shown = super().get_metrics(trainer, pl_module)
        self._shown.pop("v_num", None)  # the last letters of a name that the end says in full
        bound = getattr(pl_module, "last_terms", {}).get("bound")
        if trainer.state.fn == TrainerFn.FITTING and bound is not None:
            self._shown["train/elbo"] = bound.mean().item()
            tau = trainer.callback_metrics.get("anneal/tau")
            if tau is not None:
                self._shown["anneal/tau"] = tau.item()
            left = self._pace.left(trainer)
            if left is not None:
                self._shown["left"] = in_words(left)
        return self._shown

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Update the bar where it is time to, and at the end of an epoch."""
        now = time.monotonic()
        last = batch_idx + 1 == self.total_train_batches
        if last or now - self._updated >= 1 / _PER_SECOND:
            self._updated = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif self.is_enabled and was_logged(trainer):
            self.get_metrics(trainer, pl_module)  # for the steps to come


def _waits(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    bound = getattr(pl_module, "last_terms", {}).get("bound")
    return bound is not None and is_waited_for(bound) and not was_logged(trainer)
