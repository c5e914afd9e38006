"""Whether two runs ended alike: their checkpoints to the last bit, and their logged metrics."""

import csv
from collections.abc import Container
from pathlib import Path
from typing import Any

import torch

__all__ = ["newest_run", "rows", "state", "unequal"]

_KEYS = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "callbacks")
# Of a scaled loss, and of averaged weights.
_OPTIONAL = ("MixedPrecision", "current_model_state")
# Paths, times and ids are each run's own.
OWN = ("Checkpoints", "Stopwatch", "RunId", "ModelCheckpoint")


def newest_run(root: Path) -> Path:
    """Return the newest folder of a run that has a checkpoint.

    A run that was killed after its training had ended leaves nothing to train: the folder that
    resumes it has no checkpoint of its own.

    Args:
        root: Folder of all runs; one of a run itself where there are none below it.
    """
    folders = [path.parents[1] for path in root.glob("*/*/checkpoints/last.ckpt")]
    return max(folders, key=lambda path: int(path.name.removeprefix("version_")), default=root)


def rows(run: Path) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Read what a run logged.

    Args:
        run: Its folder.

    Returns:
        Step and names of the values of each row, which tell it apart (several rows may have the
        same step: of training, validation and the test), and the row.
    """
    path = run / "metrics.csv"
    if not path.is_file():  # killed in the final test, and resumed to nothing but that
        return []
    with path.open() as file:
        found = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [((row["step"], *sorted(row)), row) for row in found]


def state(path: Path, own: Container[str] = ()) -> dict[str, Any]:
    """Read what two checkpoints of the same training have in common.

    Args:
        path: The checkpoint.
        own: Callbacks whose state is this run's own, beside those of `OWN`.
    """
    content = torch.load(path, weights_only=True)
    callbacks = content["callbacks"]
    for name in list(callbacks):
        if name.startswith(OWN) or name in own:
            del callbacks[name]
    keys = [*_KEYS, *(key for key in _OPTIONAL if key in content)]
    return {key: content[key] for key in keys}


def unequal(a: Any, b: Any, path: str) -> str:
    """Name the first difference of two states, empty where there is none.

    Args:
        a: One, nested.
        b: The other.
        path: What they are called.
    """
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return "" if same else path
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{path}: {sorted(map(str, a.keys() ^ b.keys()))}"
        return next((p for key in a if (p := unequal(a[key], b[key], f"{path}.{key}"))), "")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((p for i, (x, y) in pairs if (p := unequal(x, y, f"{path}[{i}]"))), "")
    return "" if a == b or (a != a and b != b) else f"{path}: {a} and {b}"
