"""SIGTERM and Ctrl-C: end the step, save, stop."""

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback, Checkpoint

from dvae.callbacks.checkpoints import Checkpoints
from dvae.callbacks.place import ends_a_step

__all__ = ["StopOnSignal", "StopUnsaved", "Stopped"]

log = logging.getLogger("dvae")

# Seconds in which a signal to one of several processes is the same one again: a launcher passes on
# what all of them have had from the terminal.
_ECHO = 5.0


class Stopped(Exception):
    """Training was asked to stop.

    Args:
        number: Number of the signal.
        step: The step it stopped after.
        checkpoint: Path of the checkpoint of that step, where one is written.
    """

    def __init__(self, number: int, step: int, checkpoint: str | None) -> None:
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.number = number
        self.step = step
        self.checkpoint = checkpoint


class StopUnsaved(Callback):
    """Answer SIGTERM and Ctrl-C at the end of the step: stop training, where nothing is saved.

    In a validation it waits for the end of it. A second signal stops at once. Several processes
    agree at the end of each step whether any of them was asked, and stop after the same one. They
    do so from CPU to CPU: no device is waited for.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._since = 0.0
        self._hosts: Any = None  # a process group, where there are several processes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen; Lightning restores the handlers that were there before at the end of the fit."""
        self._signal = None
        # The group that gradients go through would wait for all work on a GPU.
        self._hosts = dist.new_group(backend="gloo") if trainer.world_size > 1 else None
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop at the end of the step."""
        if ends_a_step(trainer):
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the validation."""
        self._stop_if_asked(trainer)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            if self._hosts is not None and time.monotonic() - self._since < _ECHO:
                return
            raise KeyboardInterrupt
        self._signal, self._since = number, time.monotonic()
        log.warning(
            "%s: saving at the end of this step (once more stops at once)",
            signal.Signals(number).name,
        )

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        number = self._signal or 0
        if self._hosts is not None:
            # One that has had no signal is to stop with the others.
            asked = torch.tensor(number)
            dist.all_reduce(asked, dist.ReduceOp.MAX, self._hosts)
            number = int(asked)
        if not number:
            return
        path = None
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Checkpoints):
                path = callback.save_last_step(trainer)
        raise Stopped(number, trainer.global_step, path)


class StopOnSignal(StopUnsaved, Checkpoint):
    """Answer SIGTERM and Ctrl-C with a checkpoint at the end of the step, and stop training.

    As `StopUnsaved`, with a checkpoint of the step, after a validation that belongs to it; several
    processes save together.

    A subclass of Lightning's `Checkpoint` so that it comes after the callbacks whose state is
    saved, in whatever order they are given; a trainer without checkpoints takes none of those.
    """
