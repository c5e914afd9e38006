"""The two checkpoints of a run: the last one and the best by a metric of the validation."""

import difflib
import logging
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor

from dvae.callbacks.place import ends_a_step, is_adding_up, is_reading
from dvae.runs.checkpoints import Checkpoint
from dvae.runs.files import write_whole
from dvae.runs.layout import BEST, LAST, MONITOR
from dvae.runs.resume import Best, copy_best, find_best
from dvae.scalars import check_choice

__all__ = ["Checkpoints"]

log = logging.getLogger("dvae")

Mode = Literal["max", "min"]


class Checkpoints(ModelCheckpoint):
    """Write ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` by a metric.

    Where nothing was validated the best is the last. A run that ends within an epoch, or cannot
    read its next batch, be it of the validation, leaves a checkpoint of its last step too. A
    checkpoint that cannot be written is reported, the older one stays, and training goes on; only
    at the end of the training is it an error.

    A resumed run begins with a copy of the best so far, so that a run's folder has all of it,
    wherever it is moved to. Whoever asks the trainer to stop (a time limit, early stopping) while
    gradients are being added up is answered at the end of the step: what was added up so far is in
    no checkpoint.

    Lightning's class is the base for its place among the callbacks and for the loggers, which ask
    it for paths and scores; when something is written is decided here.

    Args:
        every_n_steps: Steps after which ``last.ckpt`` is written within an epoch too, at least 1;
            only at the ends of epochs by default.
        monitor: Metric of the validation that says which checkpoint is the best, such as
            ``val/psnr``; the bound by default. Another one is for an objective that is no bound.
        mode: Whether the highest value of it is the best, ``max``, or the lowest, ``min``.

    Raises:
        ValueError: ``every_n_steps`` is below 1, or there is no such mode.
        MisconfigurationException: ``monitor`` is not among what the first validation logs, be it
            Lightning's sanity check; the message says what is.
    """

    monitor: str

    def __init__(
        self, every_n_steps: int | None = None, monitor: str = MONITOR, mode: Mode = "max"
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(
                f"checkpoints.every_n_steps must be an integer >= 1 or null; got {every_n_steps}"
            )
        check_choice("checkpoints.mode", mode, Mode)
        super().__init__(filename="best", monitor=monitor, mode=mode, save_last=True)
        self.every_n_steps = every_n_steps
        self._batches_in_last: int | None = None
        self._unjudged = False
        self._stop_later = False
        self._has_trained = False  # until then a run that is resumed may still be refused

    @property
    def state_key(self) -> str:
        """Name the state in a checkpoint."""
        return f"{type(self).__qualname__}{ {'monitor': self.monitor, 'mode': self.mode}!r}"

    @property
    def chosen_by(self) -> str:
        """Say which metric chose the best so far, and its value; empty where there is none."""
        if self.best_model_score is None:
            return ""
        return f"{self._goal}, {self.best_model_score:.5g}"

    @property
    def _goal(self) -> str:
        return f"the {'highest' if self.mode == 'max' else 'lowest'} {self.monitor}"

    def state_dict(self) -> dict[str, Any]:
        """Return where the best so far is, from wherever it is asked, and how good."""
        path = str(Path(self.best_model_path).absolute()) if self.best_model_path else ""
        return {"best_model_path": path, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: `on_load_checkpoint` does it, which knows where the checkpoint lies."""

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the best so far, also where the run that is resumed has another folder."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self.state_key not in checkpoint["callbacks"]:
            kind = f"{type(self).__qualname__}{{"
            if any(key.startswith(kind) for key in checkpoint["callbacks"]):
                log.warning(
                    "the best checkpoint so far was chosen by another metric: the best is judged "
                    "anew from here on, by %s",
                    self._goal,
                )
            return
        assert trainer.ckpt_path is not None
        resumed = Checkpoint(trainer.ckpt_path, checkpoint)
        best = find_best(resumed, self.state_key, self.monitor)
        if best is not None:
            self._remember(best)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the best so far of a run that is resumed."""
        self._batches_in_last = None
        if self.best_model_score is None:
            return
        path = Path(self.best_model_path)
        if trainer.is_global_zero:
            path = copy_best(path, self._path(BEST))
        path = trainer.strategy.broadcast(path)
        self._remember(Best(path, self.best_model_score))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save the last where it is time to; the end of an epoch has its own."""
        self._has_trained = True
        self._put_off_a_stop(trainer)
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and ends_a_step(trainer):
            self.save_last_step(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the best; the end of an epoch has its own."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if trainer.sanity_checking:
            self._score(trainer)
            return
        self._put_off_a_stop(trainer)
        self._unjudged = True
        within = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if within and self._judge(trainer) and not is_adding_up(trainer):
            self._save_last(trainer, copied=True)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last step where it is the next batch that failed: a disk or folder that went."""
        of_data = isinstance(exception, (OSError, ValueError)) and is_reading(trainer)
        # Other processes may be in the middle of a step.
        if not (of_data and self._has_trained) or trainer.world_size > 1:
            return
        if trainer.validating:
            # Lightning goes back into a validation that was left within a batch: here its first.
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.reset()
            progress.increment_ready()
            progress.increment_started()
        self.save_last_step(trainer)
        if self._batches_in_last == trainer.fit_loop.total_batch_idx:
            log.warning(
                "the next batch could not be read; step %d is saved in %s, and --ckpt_path last "
                "goes on from there",
                trainer.global_step,
                self._path(LAST),
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the best and save the last, also where the training ends within an epoch."""
        self._save_last(trainer, copied=self._judge(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a checkpoint of the last step, and a best one where nothing told which it is."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.save_last_step(trainer)
        if self._batches_in_last != trainer.fit_loop.total_batch_idx:
            raise OSError(
                f"the checkpoint of the last step ({trainer.global_step}) could not be written to "
                f"{self.dirpath}: make room, then resume from the one before with --ckpt_path last"
            )
        if self.best_model_score is None or not trainer.enable_validation:
            self.best_model_path = str(self._path(BEST))
            trainer.save_checkpoint(self.best_model_path)
            self.best_model_score = None  # of one before, which it is not

    def save_last_step(self, trainer: pl.Trainer) -> str | None:
        """Write ``last.ckpt``, unless it is there already.

        Args:
            trainer: Trainer at the end of a step, see `ends_a_step`, or of an epoch.

        Returns:
            The path; it is that of an older step where this one could not be written, and ``None``
            where there is no older one.
        """
        if self._batches_in_last != trainer.fit_loop.total_batch_idx:
            self._save_last(trainer)
        path = self._path(LAST)
        return str(path) if path.is_file() else None

    def _save_last(self, trainer: pl.Trainer, copied: bool = False) -> None:
        """Write ``last.ckpt``, by a copy where ``best.ckpt`` was written at this moment."""
        path = self._path(LAST)
        self.last_model_path = str(path)
        if self._write(trainer, path, self._path(BEST) if copied else None):
            self._batches_in_last = trainer.fit_loop.total_batch_idx

    def _judge(self, trainer: pl.Trainer) -> bool:
        """Write ``best.ckpt`` if the last validation was the best; tell whether it was."""
        if not self._unjudged:
            return False
        try:
            score = self._score(trainer)
        except MisconfigurationException:
            if not is_adding_up(trainer):
                self._save_last(trainer)  # so that the steps before are not lost
            raise
        self._unjudged = False
        before = self.best_model_score
        above = before is None or bool(score > before if self.mode == "max" else score < before)
        better = bool(score.isfinite()) and above
        # Processes write together.
        if not trainer.strategy.reduce_boolean_decision(better):
            return False
        was = Best(Path(self.best_model_path), before)
        # Before it is written: a checkpoint knows the best as well.
        self._remember(Best(self._path(BEST), score.detach().cpu()))
        if self._write(trainer, self._path(BEST)):
            return True
        self._remember(was)
        return False

    def _score(self, trainer: pl.Trainer) -> Tensor:
        """Return what the last validation says of the metric."""
        found = trainer.callback_metrics
        names = sorted(name for name in found if not name.startswith(("train/", "anneal/")))
        if self.monitor in names:
            return found[self.monitor]
        close = difflib.get_close_matches(self.monitor, names, n=1)
        raise MisconfigurationException(
            f"checkpoints.monitor must be a metric of the validation; got {self.monitor}; "
            + (f"did you mean {close[0]}? There are: " if close else "there are: ")
            + ", ".join(names)
        )

    def _remember(self, best: Best) -> None:
        found = best.score is not None
        self.best_model_path = str(best.path) if found else ""
        self.best_model_score = self.current_score = best.score
        self.best_k_models = {self.best_model_path: best.score} if found else {}  # type: ignore[dict-item]

    def _write(self, trainer: pl.Trainer, path: Path, same: Path | None = None) -> bool:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return False
        try:
            if same is None:
                trainer.save_checkpoint(path)
            else:
                if trainer.is_global_zero:
                    write_whole(path, same.read_bytes())
                trainer.strategy.barrier("Trainer.save_checkpoint")
        except OSError as error:
            log.warning(
                "step %d: cannot write %s (%s); the older checkpoint is as it was, and training "
                "goes on and tries again",
                trainer.global_step,
                path,
                error.strerror or error,
            )
            # The other processes wait there for the file.
            trainer.strategy.barrier("Trainer.save_checkpoint")
            return False
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)
        return True

    def _put_off_a_stop(self, trainer: pl.Trainer) -> None:
        if is_adding_up(trainer):
            self._stop_later |= trainer.should_stop
            trainer.should_stop = False
        elif self._stop_later:
            trainer.should_stop, self._stop_later = True, False

    def _path(self, name: str) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath) / name
