"""Where to go on: the newest good checkpoint of an experiment, and the command that does it."""

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from dvae.callbacks.place import ADDING_UP
from dvae.models.weights import read_checkpoint
from dvae.runs.config import read_config
from dvae.runs.files import clear_parts
from dvae.runs.layout import RunFolder

__all__ = ["check_resumable", "find_last", "nothing_left", "resume_command"]

log = logging.getLogger("dvae")

# What fine-tuning and schedules add to the settings of an optimizer's group.
_OURS = {"params", "name", "lr_scale", "initial_lr"}


def find_last(experiment: Path) -> Path | None:
    """Find the last checkpoint that can be read, in the newest version folder.

    That is the one of the latest step, whichever file looks newest. A run that was stopped before
    its first checkpoint goes on from where it began itself: the checkpoint that its config names,
    or the start.

    Args:
        experiment: Folder of all versions.

    Returns:
        The checkpoint, or ``None`` where there is nothing to go on from.
    """
    for run in RunFolder.versions(experiment):
        clear_parts(run.checkpoints)
        good = _last_good(run)
        if good is not None:
            return good
        began, origin = _origin(run)
        if began:
            log.warning("%s has no good checkpoint: going back to where it began", run.path)
            if origin is None or _step(origin) is not None:
                return origin
            log.warning("%s, where it began, is not there: looking at the run before", origin)
    return None


def nothing_left(trainer: pl.Trainer, path: str) -> str:
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
        run: Its folder, with its config.
        checkpoint: Where it stands; ``None`` if it has written none.
        fine_tuned: Whether its config names weights to start from, which would start it afresh.
    """
    words = ["python", "train.py", "fit", "--config", str(run.config)]
    if checkpoint is not None:
        words += ["--ckpt_path", checkpoint]
        words += ["--init_from", "null"] if fine_tuned else []
    return shlex.join(words)


def check_resumable(
    path: str, content: Mapping[str, Any], optimizer: Optimizer, scheduled: bool
) -> None:
    """Refuse a checkpoint whose training another optimizer cannot go on with.

    One from which training does not go on exactly is said in a line.

    Args:
        path: Path of the checkpoint.
        content: Content of the checkpoint.
        optimizer: Optimizer of the run, newly made.
        scheduled: Whether the run has a schedule of the learning rate.

    Raises:
        ValueError: It has no state of an optimizer, or one of another class, of other parameters,
            or with a schedule where there is none now.
    """
    problem = _optimizer_problem(content, optimizer) or _schedule_problem(content, scheduled)
    if problem:
        raise ValueError(
            f"{path} cannot be resumed: {problem} (--init_from takes over its weights and starts "
            "the optimizer afresh)"
        )
    if content.get(ADDING_UP):
        log.warning(
            "%s was saved between the batches of a step: the gradients of those before are lost",
            path,
        )


def _optimizer_problem(content: Mapping[str, Any], optimizer: Optimizer) -> str | None:
    states = content.get("optimizer_states") or []
    if not states or "loops" not in content:
        return "it holds weights without the state of the optimizer and the training"
    mine, saved = optimizer.param_groups, states[0]["param_groups"]
    name = type(optimizer).__name__
    trained_with = _class_of_optimizer(content)
    if trained_with is None:
        # Of a model made in Python: the settings tell most classes apart, and this one Adam's.
        differ = {key for a, b in zip(mine, saved, strict=False) for key in a.keys() ^ b.keys()}
        coupled = [groups[0].get("decoupled_weight_decay") for groups in (mine, saved)]
        trained_with = "another optimizer" if differ - _OURS or coupled[0] != coupled[1] else name
    if trained_with != name:
        return f"it was trained with {trained_with} and this run has {name}"
    sizes = [[len(group["params"]) for group in groups] for groups in (mine, saved)]
    if sizes[0] != sizes[1]:
        return (
            f"its {name} trained {sum(sizes[1])} parameters in {len(saved)} group(s) and this "
            f"run's trains {sum(sizes[0])} in {len(mine)}, which finetune.freeze and "
            "finetune.lr_scale say"
        )
    return None


def _class_of_optimizer(content: Mapping[str, Any]) -> str | None:
    settings = content.get("hyper_parameters") or {}
    if "optimizer" not in settings:
        return None
    chosen = settings["optimizer"]
    if chosen is None:
        return "AdamW"  # the default of DiscreteVAE
    return str(chosen["class_path"]).rpartition(".")[2] if isinstance(chosen, Mapping) else None


def _schedule_problem(content: Mapping[str, Any], scheduled: bool) -> str | None:
    if bool(content.get("lr_schedulers")) == scheduled:
        return None
    with_one, without = ("this run", "it") if scheduled else ("it", "this run")
    return f"{with_one} has a model.lr_schedule and {without} has none"


def _last_good(run: RunFolder) -> Path | None:
    ours = run.ours
    # Of callbacks of the user's own there may be hundreds: they are read where these two are bad.
    others = sorted(set(run.checkpoints.glob("*.ckpt")) - set(ours))
    for paths in (ours, others):
        steps = {path: step for path in paths if (step := _step(path, exact=True)) is not None}
        if steps:
            return max(steps, key=lambda path: steps[path])  # the first of equal ones
    return None


def _step(path: Path, exact: bool = False) -> int | None:
    if not path.is_file():
        return None
    try:
        content = read_checkpoint(path)
    except (OSError, ValueError) as error:
        log.warning("passed over: %s", error)
        return None
    # From the best of a validation within a step nothing can go on exactly.
    if exact and content.get(ADDING_UP):
        return None
    return int(content.get("global_step", 0))


def _origin(run: RunFolder) -> tuple[bool, Path | None]:
    # A folder whose run died before it wrote its config is as good as none.
    try:
        path = read_config(run.config).get("ckpt_path")
    except (OSError, ValueError):
        return False, None
    return True, Path(path) if path else None
