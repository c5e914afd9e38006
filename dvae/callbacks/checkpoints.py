"""The two checkpoints of a run: the last one and the best by the validation ELBO."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["Checkpoints", "ends_a_step"]

log = logging.getLogger("dvae")

_MONITOR = "val/elbo"


class Checkpoints(ModelCheckpoint):
    """Write ``checkpoints/last.ckpt`` after each epoch and ``best.ckpt`` by ``val/elbo``.

    Where nothing was validated the best is the last. A run that ends within an epoch, or cannot
    read its next batch, be it of the validation, leaves a checkpoint of its last step too. A
    checkpoint that cannot be written is reported, the older one stays, and training goes on; only
    at the end of the training is it an error.

    Args:
        every_n_steps: Steps after which ``last.ckpt`` is written within an epoch too, at least 1;
            only at the ends of epochs by default.

    Raises:
        ValueError: ``every_n_steps`` is below 1.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(
                f"checkpoints.every_n_steps must be an integer >= 1 or null; got {every_n_steps}"
            )
        super().__init__(
            filename="best",
            monitor=_MONITOR,
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps
        self._step_of_last = 0
        self._failed = False
        self._between_steps = False
        self._before_validation = False
        self._read_in_validation = False

    @property
    def state_key(self) -> str:
        """Name the state in a checkpoint, whether or not the monitor was given up."""
        return self._generate_state_key(monitor=_MONITOR, mode=self.mode)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best so far, also where the run that is resumed has another folder."""
        # Only what is still there can be the best; Lightning would forget it with its folder.
        if not Path(state_dict["best_model_path"]).is_file():
            return
        super().load_state_dict({**state_dict, "dirpath": self.dirpath, "last_model_path": ""})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give up the monitor where nothing will be validated."""
        super().on_train_start(trainer, pl_module)
        self._step_of_last = trainer.global_step
        if not sum(_sizes(trainer.num_val_batches)):
            self.monitor = None

    def on_train_batch_start(self, *args: Any) -> None:
        """Note that a step has begun."""
        self._between_steps = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save the last where it is time to; the end of an epoch has its own."""
        self._between_steps = ends_a_step(trainer, batch_idx)
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and self._between_steps:
            self.save_last_step(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that a validation reads between two steps, where gradients are not added up."""
        super().on_validation_start(trainer, pl_module)
        self._before_validation = self._between_steps
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._between_steps = not trainer.fit_loop.epoch_loop._should_accumulate()

    def on_validation_batch_start(self, *args: Any) -> None:
        """Note that a batch has been read, so that an error is of another kind."""
        self._read_in_validation, self._between_steps = self._between_steps, False

    def on_validation_batch_end(self, *args: Any) -> None:
        """Note that the next batch is being read."""
        self._between_steps = self._read_in_validation

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to how training stood, and judge the best."""
        self._between_steps = self._before_validation
        super().on_validation_end(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last step where it is the next batch that failed: a disk or folder that went."""
        super().on_exception(trainer, pl_module, exception)
        failed_to_read = isinstance(exception, (OSError, ValueError)) and self._between_steps
        # Other processes may be in the middle of a step.
        if not failed_to_read or trainer.world_size > 1 or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if trainer.validating:
            # Lightning goes back into a validation that was left within a batch: here its first.
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.reset()
            progress.increment_ready()
            progress.increment_started()
        path = self.save_last_step(trainer)
        if not self._failed:
            log.warning(
                "the next batch could not be read; step %d is saved in %s, and --ckpt_path last "
                "goes on from there",
                trainer.global_step,
                path,
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, unless nothing has been validated yet to tell the best by."""
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)
        if not trainer.fast_dev_run and self._last_global_step_saved != trainer.global_step:  # type: ignore[attr-defined]
            self.save_last_step(trainer, mid_epoch=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a checkpoint of the last step, also where it is not the end of an epoch."""
        if self.dirpath is None:
            return
        if trainer.global_step not in (self._last_global_step_saved, self._step_of_last):
            self.save_last_step(trainer, mid_epoch=False)
        if self._failed:
            raise OSError(
                f"the checkpoint of the last step ({trainer.global_step}) could not be written to "
                f"{self.dirpath}: make room, then resume from the one before with --ckpt_path last"
            )
        if not self.best_model_path:
            self.best_model_path = str(Path(self.dirpath) / "best.ckpt")
            trainer.save_checkpoint(self.best_model_path)
        best = Path(self.best_model_path)
        own = Path(self.dirpath) / "best.ckpt"
        if best.parent != own.parent and trainer.is_global_zero:
            # The best of a resumed run may be from before it was stopped.
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(best, own)
            self.best_model_path = str(own)

    def save_last_step(self, trainer: pl.Trainer, mid_epoch: bool = True) -> str | None:
        """Write ``last.ckpt`` unless it is of this step already.

        Args:
            trainer: At the end of a step, see `ends_a_step`, or of an epoch.
            mid_epoch: Whether it is called from the hook at the end of a batch.

        Returns:
            The path; it is that of an older step where this one could not be written, and ``None``
            where there is no older one.
        """
        assert self.dirpath is not None
        path = Path(self.dirpath) / "last.ckpt"
        if trainer.global_step not in (self._step_of_last, self._last_global_step_saved):
            before, self._last_global_step_saved = self._last_global_step_saved, -1
            self.last_model_path = str(path)
            self._save_checkpoint(trainer, str(path))
            if mid_epoch:
                # A validation at this step is still to be judged for the best.
                self._last_global_step_saved = before
        return str(path) if path.is_file() else None

    def _save_topk_checkpoint(self, trainer: pl.Trainer, monitor_candidates: Any) -> None:
        best = {name: getattr(self, name) for name in _BEST}
        best["best_k_models"] = dict(self.best_k_models)
        super()._save_topk_checkpoint(trainer, monitor_candidates)
        if self._failed:
            # The file is still that of the older best.
            for name, value in best.items():
                setattr(self, name, value)

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        try:
            super()._save_checkpoint(trainer, filepath)
        except OSError as error:
            self._failed = True
            log.warning(
                "step %d: cannot write %s (%s); the older checkpoint is as it was, and training "
                "goes on and tries again",
                trainer.global_step,
                filepath,
                error.strerror or error,
            )
            # The other processes wait there for the file.
            trainer.strategy.barrier("Trainer.save_checkpoint")
            return
        self._failed = False
        if Path(filepath).name == "last.ckpt":
            self._step_of_last = trainer.global_step


_BEST = ("current_score", "best_model_score", "best_model_path", "kth_best_model_path", "kth_value")


def ends_a_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Tell whether a checkpoint of this moment can be resumed exactly.

    Args:
        trainer: In the hook at the end of a training batch.
        batch_idx: Of the batch in its epoch.

    Returns:
        False between the batches whose gradients are added up, and at the end of an epoch, where
        the validation belongs to the step and the checkpoint comes after it.
    """
    adding_up = (batch_idx + 1) % trainer.accumulate_grad_batches
    return not adding_up and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _sizes(sizes: Any) -> list[Any]:
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
