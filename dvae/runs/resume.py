"""Where a run goes on: its last good checkpoint, its best so far, and the command that does it."""

import logging
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dvae.runs.checkpoints import ADDING_UP, Checkpoint
from dvae.runs.config import read_config
from dvae.runs.files import clear_parts, write_whole
from dvae.runs.layout import BEST, RunFolder

if TYPE_CHECKING:
    import pytorch_lightning as pl

__all__ = ["Best", "copy_best", "find_best", "find_last", "nothing_left", "resume_command"]

log = logging.getLogger("dvae")


@dataclass(frozen=True)
class Best:
    """A checkpoint and how good it is.

    Attributes:
        path: The file.
        score: Value of the metric that chose it, a scalar on the CPU; None where there is no file.
    """

    path: Path
    score: Tensor | None


def find_last(experiment: Path) -> Checkpoint | None:
    """Find the last checkpoint that can be read, in the newest version folder.

    That is the one of the latest step, whichever file looks newest. A run that was stopped before
    its first checkpoint goes on from where it began itself: the checkpoint that its config names,
    or the start.

    Args:
        experiment: Folder of all versions.

    Returns:
        The checkpoint, which has been read; ``None`` where there is nothing to go on from.
    """
    for run in RunFolder.versions(experiment):
        clear_parts(run.checkpoints)
        good = _last_good(run)
        if good is not None:
            return good
        try:
            origin = read_config(run.config).get("ckpt_path")
        except (OSError, ValueError):
            continue  # a folder whose run died before it wrote its config is as good as none
        log.warning("%s has no good checkpoint: going back to where it began", run.path)
        good = _good(Path(origin)) if origin else None
        if good is not None or not origin:
            return good
        log.warning("%s, where it began, is not there: looking at the run before", origin)
    return None


def find_best(resumed: Checkpoint, key: str, metric: str) -> Best | None:
    """Find the best so far of a run that goes on: beside its checkpoint, or where it was.

    The file itself says how good it is. One of a later step is not the best so far: it is of a
    training that went on from here another time.

    Args:
        resumed: Checkpoint that the run goes on from.
        key: Key of the state of `Checkpoints` in it.
        metric: Name of the metric that chooses it.

    Returns:
        The best, or None where there is none; one that is known of and not found is said in a line.
    """
    state = resumed.content["callbacks"][key]
    beside, recorded = resumed.path.parent / BEST, state["best_model_path"]
    for path in dict.fromkeys([beside, Path(recorded)] if recorded else [beside]):
        found = resumed if path == resumed.path else _good(path)
        content = found.content if found and found.step <= resumed.step else {}
        score = content.get("callbacks", {}).get(key, {}).get("best_model_score")
        if score is not None:
            return Best(path, score)
    known = state["best_model_score"]
    if known is not None:
        log.warning(
            "the best checkpoint so far (%s %.2f) is neither beside %s nor at %s: the best is "
            "judged anew from here on",
            metric,
            float(known),
            resumed.path,
            recorded,
        )
    return None


def copy_best(path: Path, own: Path) -> Path:
    """Copy the best so far into the folder of the run.

    Args:
        path: Path of the file.
        own: Path of the copy.

    Returns:
        Path of the copy, or of the file if it could not be copied.
    """
    if own.is_file() and own.samefile(path):
        return own
    try:
        write_whole(own, path.read_bytes())
    except OSError as error:
        log.warning("cannot copy %s to %s (%s); it stays the best", path, own, error.strerror)
        return path
    return own


def nothing_left(trainer: "pl.Trainer", path: str) -> str:
    """Say why a run that was resumed had nothing left to train.

    Args:
        trainer: Trainer after its fit.
        path: Path of the checkpoint.
    """
    key = "max_time"
    if trainer.global_step == trainer.max_steps:
        key = "max_steps"
    elif trainer.current_epoch == trainer.max_epochs:
        key = "max_epochs"
    return (
        f"nothing was left to train: {path} is of step {trainer.global_step}, where trainer.{key} "
        "ends the run; a larger one goes on"
    )


def resume_command(run: RunFolder, checkpoint: str | None, fine_tuned: bool) -> str:
    """Write the command that resumes a run.

    Args:
        run: Folder of the run, with its config.
        checkpoint: Path of its last checkpoint; ``None`` if it has written none.
        fine_tuned: Whether its config names weights to start from, which would start it afresh.
    """
    # Whoever has it installed is not in a checkout.
    start = ["dvae"] if Path(sys.argv[0]).name == "dvae" else ["python", "train.py"]
    words = [*start, "fit", "--config", str(run.config)]
    if checkpoint is not None:
        words += ["--ckpt_path", checkpoint]
        words += ["--init_from", "null"] if fine_tuned else []
    return shlex.join(words)


def _last_good(run: RunFolder) -> Checkpoint | None:
    ours = run.ours
    # Of callbacks of the user's own there may be hundreds: they are read where these two are bad.
    others = sorted(set(run.checkpoints.glob("*.ckpt")) - set(ours))
    for paths in (ours, others):
        best: Checkpoint | None = None
        for path in paths:
            if best is None or _claimed_step(path) > best.step:  # the first of equal ones
                best = _good(path, exact=True) or best
        if best is not None:
            return best
    return None


def _good(path: Path, exact: bool = False) -> Checkpoint | None:
    if not path.is_file():
        return None
    checkpoint = Checkpoint(path)
    try:
        adding_up = checkpoint.content.get(ADDING_UP)
    except (OSError, ValueError) as error:
        log.warning("passed over: %s", error)
        return None
    # From the best of a validation within a step nothing can go on exactly.
    return None if exact and adding_up else checkpoint


def _claimed_step(path: Path) -> float:
    """Look up the step of a checkpoint without reading its tensors, nor checking a byte."""
    try:
        return float(torch.load(path, "cpu", weights_only=True, mmap=True)["global_step"])
    except Exception:  # of a damaged file torch.load raises all sorts of things
        return math.inf
