"""Lines in the log where no terminal shows a bar: under nohup, SLURM, in a pipe."""

import logging
import math
import sys
import time
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Timer
from torch import Tensor

from dvae.devices import is_waited_for
from dvae.doing import Doing, doing, in_words, spoke
from dvae.models.logging import was_logged
from dvae.scalars import annealable_scalars

__all__ = ["Pace", "ProgressLines"]

log = logging.getLogger("dvae")

# Seconds. Half a minute is the promise; a batch, after which a line can come, takes some of it.
_FIRST, _EVERY = 5.0, 20.0
_BATCH = "%s: batch %d of %s"


class Pace:
    """Time that the rest of a training takes, by its pace so far, its validations among it.

    The first step, in which networks are compiled and code books begun, is left out.
    """

    def __init__(self) -> None:
        self._start: tuple[float, int] | None = None

    def begin(self, step: int) -> tuple[float, int]:
        """Begin to measure, unless that is done; also where a training starts over.

        Args:
            step: Optimizer steps taken so far.

        Returns:
            When it began, and at which step.
        """
        if self._start is None or step < self._start[1]:
            self._start = (time.monotonic(), step)
        return self._start

    def left(self, trainer: pl.Trainer) -> float | None:
        """Estimate the seconds to the end; None where that, or the pace, is not known yet.

        Args:
            trainer: Trainer between two steps.
        """
        start, first = self.begin(trainer.global_step)
        since, done = time.monotonic() - start, trainer.global_step - first
        timers = (c for c in trainer.callbacks if isinstance(c, Timer))  # type: ignore[attr-defined]
        ends = [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
        steps = trainer.estimated_stepping_batches
        if done and math.isfinite(steps):
            ends.append(max(0.0, since / done * (steps - trainer.global_step)))
        return min(ends, default=None)


class ProgressLines(Callback):
    """Say where a run stands, at least every 30 seconds, where standard error is no terminal.

    In training: the step, the temperature, the bound of the batch in nats per example, and how long
    it goes on; in validation, test and prediction: the batch. Where one takes longer, and between
    them, a thread says what is done (`dvae.doing`).
    """

    def __init__(self) -> None:
        self._pace = Pace()
        self._next: float | None = None
        self._values: list[str] = []
        self._until_end = ExitStack()
        self._doing = Doing("")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin to speak."""
        self._until_end.close()
        if trainer.is_global_zero:
            self._doing = self._until_end.enter_context(doing("beginning to " + stage))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Be silent."""
        self._until_end.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Be silent."""
        self._until_end.close()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the first step, which may compile."""
        self._doing.now("step %d", trainer.global_step + 1)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Say the step."""
        self._pace.begin(trainer.global_step)
        bound = getattr(pl_module, "last_terms", {}).get("bound")
        # On an accelerator, where reading means waiting, the values are those last logged.
        waits = bound is not None and is_waited_for(bound)
        if waits and was_logged(trainer) and not sys.stderr.isatty():
            self._values = _read(pl_module, bound)
        self._doing.now("step %d", trainer.global_step + 1)
        if not self._due(trainer):
            return
        total = trainer.estimated_stepping_batches
        of = f" of {total:.0f}" if math.isfinite(total) else ""
        values = self._values if waits else _read(pl_module, bound)
        left = self._pace.left(trainer)
        rest = [] if left is None else [f"{in_words(left)} left"]
        log.info(", ".join([f"step {trainer.global_step}{of}", *values, *rest]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that no batch is on its way."""
        self._doing.now("ending epoch %d", trainer.current_epoch)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Begin a batch."""
        self._begin("validation", batch, trainer.num_val_batches)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Say the batch."""
        self._evaluated("validation", trainer, batch, trainer.num_val_batches)

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Begin a batch."""
        self._begin("test", batch, trainer.num_test_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Say the batch."""
        self._evaluated("test", trainer, batch, trainer.num_test_batches)

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Begin a batch."""
        self._begin("prediction", batch, trainer.num_predict_batches)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Say the batch."""
        self._evaluated("prediction", trainer, batch, trainer.num_predict_batches)

    def _begin(self, what: str, batch: Any, counts: Any) -> None:
        self._doing.now(_BATCH, what, *_place(batch[1:], counts))

    def _evaluated(self, what: str, trainer: pl.Trainer, batch: Any, counts: Any) -> None:
        if self._due(trainer):
            log.info(_BATCH, what, *_place(batch[2:], counts))

    def _due(self, trainer: pl.Trainer) -> bool:
        if sys.stderr.isatty() or not trainer.is_global_zero:
            return False
        now = time.monotonic()
        if self._next is None:
            self._next = now + _FIRST
        if now < self._next:
            return False
        self._next = now + _EVERY
        spoke()
        return True


def _place(number: Any, counts: Any) -> tuple[int, Any]:
    n, *loader = number  # the last is left out where there is one loader
    return n + 1, counts[loader[0] if loader else 0]


def _read(model: pl.LightningModule, bound: Tensor | None) -> list[str]:
    scalars = annealable_scalars(model).items()
    taus = [scalar.buffer for path, scalar in scalars if path.rpartition(".")[2] == "tau"]
    values = [f"tau {tau.item():.3g}" for tau in taus]
    return values if bound is None else [*values, f"ELBO {bound.mean().item():.2f}"]
