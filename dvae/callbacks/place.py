"""Where a run stands in its epochs, so written that Lightning goes on exactly there.

What Lightning (read in 2.6) saves of its loops depends on the hook that it is saved in, and it does
not tell all of them apart when it resumes: a run that `max_steps` has ended within an epoch loses
the rest of that epoch, one with `max_steps` counts a finished epoch twice, and a validation that
comes after the step is left out. So the place is rewritten into one of three forms:

- an epoch has ended, and the next one begins;
- some batches of an epoch are done, and so is the validation after them, if there was one;
- some batches are done, and the validation after them comes first.
"""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from dvae.runs.checkpoints import ADDING_UP

__all__ = ["begin_at_place", "ends_a_step", "is_adding_up", "is_reading", "settle_place"]

# The names of the counters in the state of Lightning's loops.
_EPOCHS = "epoch_progress"
_BATCHES = "epoch_loop.batch_progress"
_VALIDATION = "epoch_loop.val_loop.batch_progress"
_LOOP = "epoch_loop.state_dict"
_STEPS = "_batches_that_stepped"


def settle_place(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Rewrite the place in a checkpoint that is about to be saved.

    Args:
        trainer: Trainer in whatever hook saves it, or after the training.
        checkpoint: Its content.
    """
    checkpoint[ADDING_UP] = is_adding_up(trainer)
    loops = checkpoint["loops"]["fit_loop"]
    batches, validation, loop = loops[_BATCHES], loops[_VALIDATION], loops[_LOOP]
    current = batches["current"]
    done, at_batch_end = current["processed"], current["completed"] < current["processed"]
    validates_next = _is_left(validation) or (at_batch_end and _validation_follows(trainer))
    last = batches["is_last_batch"]
    # Lightning counts the steps that the loggers see after the validation.
    counted = not at_batch_end and not trainer.validating
    steps = last or done % trainer.accumulate_grad_batches == 0
    within = done > 0 and (validates_next or not last)
    for part in ("total", "current"):
        _count(batches[part], batches[part]["processed"], open_=within and not validates_next)
        begun = loops[_EPOCHS][part]["started" if done else "processed"]
        _count(loops[_EPOCHS][part], begun, open_=False)
        if within:
            loops[_EPOCHS][part].update(processed=begun - 1, completed=begun - 1)
        if validates_next:
            validation[part].update(ready=1, started=1, processed=0, completed=0)
        else:
            _count(validation[part], validation[part]["processed"], open_=False)
    if within and counted and steps:
        loop[_STEPS] -= 1
    elif not within and done and not counted:
        loop[_STEPS] += 1


def begin_at_place(trainer: pl.Trainer) -> None:
    """Let an epoch that has not begun begin as any other.

    Where a run has `max_steps`, Lightning takes every checkpoint for one from within an epoch.

    Args:
        trainer: Whose training is about to start.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    if epochs.ready == epochs.completed:
        trainer.fit_loop.epoch_loop.restarting = False


def is_adding_up(trainer: pl.Trainer) -> bool:
    """Tell whether the gradients of the last batch wait for those of the next.

    Args:
        trainer: Trainer after a training batch.
    """
    loop = trainer.fit_loop
    if loop.epoch_loop.batch_progress.is_last_batch:
        return False
    return (loop.batch_idx + 1) % trainer.accumulate_grad_batches != 0


def ends_a_step(trainer: pl.Trainer) -> bool:
    """Tell whether a checkpoint of this moment can be resumed exactly.

    Args:
        trainer: Trainer in the hook at the end of a training batch, or later.

    Returns:
        False between the batches whose gradients are added up, and at the end of an epoch or of the
        training, where the validation belongs to the step and the checkpoint comes after it.
    """
    ends = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return not (is_adding_up(trainer) or ends or trainer.global_step == trainer.max_steps)


def is_reading(trainer: pl.Trainer) -> bool:
    """Tell whether a fit is between two steps of an epoch, where its next batch is read.

    Args:
        trainer: Trainer in a validation within the fit, or in the training.
    """
    loop = trainer.fit_loop.epoch_loop
    part = loop.val_loop if trainer.validating else loop
    read = part.batch_progress.current.ready == part.batch_progress.current.completed
    begun = trainer.state.fn == TrainerFn.FITTING and loop.batch_progress.current.completed > 0
    between = not is_adding_up(trainer) if trainer.validating else ends_a_step(trainer)
    return begun and read and between


def _count(counters: dict[str, int], number: int, *, open_: bool) -> None:
    counters.update(ready=number, started=number, processed=number, completed=number - open_)


def _is_left(validation: dict[str, Any]) -> bool:
    """Tell whether a validation was left within a batch, which `Checkpoints` says this way."""
    current = validation["current"]
    return bool(current["ready"] == current["started"] == current["processed"] + 1)


def _validation_follows(trainer: pl.Trainer) -> bool:
    """Tell whether a validation comes after the batch that has just ended.

    Not one whose time has come by the clock, or that comes because the training is to stop.
    """
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or interval is None:
        return False
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    loop = trainer.fit_loop
    if interval == math.inf:
        return loop.epoch_loop.batch_progress.is_last_batch
    batch = loop.total_batch_idx if every is None else loop.batch_idx
    return (batch + 1) % interval == 0
