"""The ways in which a run ends before it is done, and the command that goes on with it."""

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from benchmarks.fuzz.joint import Joint
from benchmarks.fuzz.settings import BATCHES, EXPERIMENT, length, run_steps, steps_after

__all__ = [
    "Ending",
    "SendSignal",
    "Snapshot",
    "changes_length",
    "checkpoint",
    "ending",
    "last_batch",
    "moment",
    "resume_words",
    "stopped_length",
]


@dataclass(frozen=True)
class Ending:
    """How a run is brought to its end.

    Attributes:
        words: Added to the command.
        callbacks: Callbacks that bring it about.
    """

    words: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()


class _Stop(Callback):
    """Ask the trainer to stop, as early stopping does."""

    def __init__(self, batch: int) -> None:
        self._left = batch

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._left -= 1
        if not self._left:
            trainer.should_stop = True


class SendSignal(Callback):
    """Send SIGTERM while a batch is worked on, or in the next validation after it.

    Args:
        batch: Which batch, counted from 1.
        validating: Whether the next validation is waited for.

    Attributes:
        step: Steps taken when it was sent; ``None`` where no such moment came.
    """

    def __init__(self, batch: int, validating: bool) -> None:
        self._left = batch
        self._validating = validating
        self.step: int | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Send it while the batch is worked on."""
        self._left -= 1
        if not self._left and not self._validating:
            self._send(trainer)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Send it in a validation."""
        if self._left <= 0 and self._validating and not trainer.sanity_checking:
            self._send(trainer)

    def _send(self, trainer: pl.Trainer) -> None:
        if self.step is None:
            self.step = trainer.global_step
            os.kill(os.getpid(), signal.SIGTERM)


class Snapshot(Callback):
    """Copy all files as they are at one moment: what a run that is killed then leaves behind.

    Args:
        root: Folder of the runs.
        to: Where the copy goes.
        batch: Training batches that are finished by then, at least 1.
        validating: Whether the next validation is waited for.

    Attributes:
        validations: Those that were finished by then.
    """

    def __init__(self, root: Path, to: Path, batch: int, validating: bool) -> None:
        self._root, self._to = root, to
        self._left = batch
        self._validating = validating
        self.validations = 0

    def on_train_batch_start(self, *args: Any) -> None:
        """Copy before the next batch."""
        if self._left <= 0 and not self._validating:
            self._copy()
        self._left -= 1

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Copy in a validation."""
        if self._left <= 0 and self._validating and not trainer.sanity_checking:
            self._copy()

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Count."""
        if not trainer.sanity_checking and not self._to.exists():
            self.validations += 1

    def on_train_end(self, *args: Any) -> None:
        """Copy where no such moment came."""
        self._copy()

    def _copy(self) -> None:
        if not self._to.exists():
            shutil.copytree(self._root, self._to)


def last_batch(joint: Joint) -> int:
    """Count the training batches of the whole run.

    Args:
        joint: The joint.
    """
    batch = 1
    while steps_after(joint, batch) < run_steps(joint):
        batch += 1
    return batch


def moment(joint: Joint) -> int:
    """Return the batch after which the run ends, within it.

    Args:
        joint: The joint.
    """
    return min(int(joint["at"]), last_batch(joint) - 1)


def changes_length(joint: Joint) -> bool:
    """Tell whether the run that is stopped is told that it is shorter.

    Args:
        joint: The joint.
    """
    return joint["end"] in ("max_epochs", "max_steps")


def stopped_length(joint: Joint) -> int:
    """Count the steps that the stopped run is told to take.

    Args:
        joint: The joint.
    """
    if joint["end"] == "max_epochs":
        return min(steps_after(joint, BATCHES * _epochs(joint)), run_steps(joint))
    if joint["end"] == "max_steps":
        return min(max(1, steps_after(joint, moment(joint))), run_steps(joint))
    return run_steps(joint)


def ending(joint: Joint) -> Ending:
    """Say how the run of a joint is ended.

    Args:
        joint: The joint; one that is not killed, which is a `Snapshot` of the whole run.
    """
    batch, end = moment(joint), joint["end"]
    if end == "max_epochs":
        return Ending([f"--trainer.max_epochs={_epochs(joint)}"])
    if end == "max_steps":
        return Ending([f"--trainer.max_steps={stopped_length(joint)}"])
    if end == "max_time":
        # The clock of `session` ticks with each batch.
        return Ending([f"--trainer.max_time=00:00:00:{batch:02d}"])
    if end == "stop":
        return Ending(callbacks=[_Stop(batch)])
    if end == "signal":
        return Ending(callbacks=[SendSignal(batch, validating=batch % 2 == 0)])
    return Ending()


def checkpoint(root: Path, name: str = "last") -> Path | None:
    """Find a checkpoint of the newest run, if there is one.

    Args:
        root: Folder of the runs, or of the one run.
        name: ``last`` or ``best``.
    """
    found = sorted(root.glob(f"**/checkpoints/{name}.ckpt"), key=_version)
    return found[-1] if found else None


def resume_words(joint: Joint, config: Path, root: Path) -> list[str]:
    """Write the command that goes on with a run that was stopped.

    Args:
        joint: The joint.
        config: The config that it was started with.
        root: Folder of its runs, which may be moved.
    """
    found, way = checkpoint(root), joint["resume"]
    own = sorted(root.glob("**/config.yaml"), key=_version)
    words = ["fit", f"--config={config}", f"--trainer.default_root_dir={root}"]
    if way == "moved" and found:
        moved = root.with_name(f"{root.name}_moved")
        root.rename(moved)
        found, own = moved / found.relative_to(root), [moved / own[-1].relative_to(root)]
        words = ["fit", f"--config={own[-1]}", f"--trainer.default_root_dir={moved}"]
    elif way == "last" and own:
        words = ["fit", f"--config={own[-1]}", f"--trainer.default_root_dir={root}"]
    words.append(f"--experiment={EXPERIMENT}")
    words += [f"--trainer.{key}={value}" for key, value in length(joint).items()]
    words.append("--trainer.max_time=null")
    # Without a logger a run has no folder among others to be found in.
    by_name = way == "last" and joint["logger"] == "default"
    return [*words, f"--ckpt_path={'last' if by_name else found or 'null'}"]


def _epochs(joint: Joint) -> int:
    return max(1, moment(joint) // BATCHES)


def _version(path: Path) -> int:
    numbers = [part for part in path.parts if part.startswith("version_")]
    return int(numbers[-1].removeprefix("version_")) if numbers else -1
