"""The best checkpoint so far of a run that is resumed: where it is found, and its copy."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dvae.models.weights import read_checkpoint
from dvae.runs.files import write_whole
from dvae.runs.layout import BEST

__all__ = ["MONITOR", "Best", "bring", "find_best"]

log = logging.getLogger("dvae")

MONITOR = "val/elbo"


@dataclass(frozen=True)
class Best:
    """A checkpoint and how good it is.

    Attributes:
        path: The file.
        score: Its ``val/elbo``, nats per example, a scalar on the CPU; None of no checkpoint.
    """

    path: Path
    score: Tensor | None


def find_best(resumed: Path, checkpoint: Mapping[str, Any], key: str) -> Best | None:
    """Find the best so far of a run that goes on: beside its checkpoint, or where it was.

    The file itself says how good it is. One of a later step is not the best so far: it is of a
    training that went on from here another time.

    Args:
        resumed: Path of the checkpoint that the run goes on from.
        checkpoint: Its content.
        key: Key of the state of `Checkpoints` in it.

    Returns:
        The best, or None where there is none; one that is known of and not found is said in a line.
    """
    state = checkpoint["callbacks"][key]
    beside, recorded = resumed.parent / BEST, state["best_model_path"]
    for path in dict.fromkeys([beside, Path(recorded)] if recorded else [beside]):
        score = _score(path, key, checkpoint["global_step"])
        if score is not None:
            return Best(path, score)
    known = state["best_model_score"]
    if known is not None:
        log.warning(
            "the best checkpoint so far (%s %.2f) is neither beside %s nor at %s: the best is "
            "judged anew from here on",
            MONITOR,
            float(known),
            resumed,
            recorded,
        )
    return None


def bring(path: Path, own: Path) -> Path:
    """Copy the best so far into the folder of the run.

    Args:
        path: The file.
        own: Where it is to be.

    Returns:
        Where it is: where it was, if it could not be copied.
    """
    if own.is_file() and own.samefile(path):
        return own
    try:
        write_whole(own, path.read_bytes())
    except OSError as error:
        log.warning("cannot copy %s to %s (%s); it stays the best", path, own, error.strerror)
        return path
    return own


def _score(path: Path, key: str, step: int) -> Tensor | None:
    try:
        content = read_checkpoint(path)
    except (OSError, ValueError):
        return None
    state = content.get("callbacks", {}).get(key)
    if state is None or content["global_step"] > step:
        return None
    score: Tensor | None = state["best_model_score"]
    return score
