"""Where to go on: the newest good checkpoint of an experiment, and the command that does it."""

import logging
import re
import shlex
from pathlib import Path

import yaml

from dvae.callbacks.checkpoint_io import PART
from dvae.models.weights import read_checkpoint

__all__ = ["find_last", "resume_command"]

log = logging.getLogger("dvae")

_VERSION = re.compile(r"version_(\d+)")


def find_last(experiment: Path) -> Path | None:
    """Find the newest checkpoint that can be read, in the newest version folder.

    A run that was stopped before its first checkpoint goes on from where it began itself: the
    checkpoint that its config names, or the start.

    Args:
        experiment: Folder of all versions.

    Returns:
        The checkpoint, or ``None`` where there is nothing to go on from.
    """
    if not experiment.is_dir():
        return None
    versions = [
        (int(found.group(1)), path)
        for path in experiment.iterdir()
        if (found := _VERSION.fullmatch(path.name))
    ]
    for _, folder in sorted(versions, reverse=True):
        good = _newest_good(folder / "checkpoints")
        if good is not None:
            return good
        began, origin = _origin(folder / "config.yaml")
        if began:
            log.warning("%s has no good checkpoint: going back to where it began", folder)
            return _is_good(origin) if origin else None
    return None


def resume_command(run: Path, checkpoint: str | None, fine_tuned: bool) -> str:
    """Write the command that resumes a run.

    Args:
        run: Its folder, with its config.
        checkpoint: Where it stands; ``None`` if it has written none.
        fine_tuned: Whether its config names weights to start from, which would start it afresh.
    """
    words = ["python", "train.py", "fit", "--config", str(run / "config.yaml")]
    if checkpoint is not None:
        words += ["--ckpt_path", checkpoint]
        words += ["--init_from", "null"] if fine_tuned else []
    return shlex.join(words)


def _newest_good(folder: Path) -> Path | None:
    # What a killed process was writing.
    for part in folder.glob(f"*{PART}"):
        part.unlink(missing_ok=True)
    files = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path for path in files if _is_good(path)), None)


def _is_good(path: Path) -> Path | None:
    try:
        read_checkpoint(path)
    except (OSError, ValueError) as error:
        log.warning("passed over: %s", error)
        return None
    return path


def _origin(config: Path) -> tuple[bool, Path | None]:
    # A folder whose run died before it wrote its config is as good as none.
    try:
        content = yaml.safe_load(config.read_text())
    except (OSError, yaml.YAMLError):
        return False, None
    if not isinstance(content, dict):
        return False, None
    path = content.get("ckpt_path")
    return True, Path(path) if path else None
