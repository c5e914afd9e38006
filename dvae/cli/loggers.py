"""The loggers of a run: CSV always, wandb without an account or a prompt."""

import functools
import logging
import netrc
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

__all__ = [
    "default_loggers",
    "in_run_folder",
    "new_run_id",
    "next_folder",
    "run_loggers",
    "sync_command",
]


log = logging.getLogger("dvae")

# The second is wandb's former word, which Lightning sets.
_OFFLINE = ("offline", "dryrun")


def _faults() -> tuple[type[Exception], ...]:
    """Return what wandb raises: nothing where it has not been imported."""
    wandb: Any = sys.modules.get("wandb")
    return () if wandb is None else (wandb.errors.Error,)


def _forgiving(method: Callable[..., None]) -> Callable[..., None]:
    """Make a fault of a logger a warning: a run is worth more than its log."""

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except (OSError, *_faults()) as error:  # type: ignore[misc]
            if not getattr(self, "_complained", False):
                self._complained = True
                name = type(self).__name__.removeprefix("Forgiving")
                log.warning("%s cannot log (%s); training goes on", name, error)

    return wrapped


class ForgivingCSVLogger(CSVLogger):
    """Lightning's, for which a full disk is a warning; rows are kept and written when they can."""

    log_metrics = _forgiving(CSVLogger.log_metrics)
    log_hyperparams = _forgiving(CSVLogger.log_hyperparams)
    save = _forgiving(CSVLogger.save)
    finalize = _forgiving(CSVLogger.finalize)


class ForgivingWandbLogger(WandbLogger):
    """Lightning's, which goes on offline where wandb cannot be reached."""

    log_metrics = _forgiving(WandbLogger.log_metrics)
    log_hyperparams = _forgiving(WandbLogger.log_hyperparams)
    log_image = _forgiving(WandbLogger.log_image)
    log_table = _forgiving(WandbLogger.log_table)
    after_save_checkpoint = _forgiving(WandbLogger.after_save_checkpoint)
    finalize = _forgiving(WandbLogger.finalize)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Start the run at wandb, or offline if that fails."""
        try:
            return super().experiment
        except _faults() as error:
            if os.environ.get("WANDB_MODE") in _OFFLINE:
                raise ValueError(f"wandb refuses its settings: {error}") from error
            log.warning("wandb cannot be used (%s); this run is logged offline", error)
            # What was begun still holds the run's id, and how to reach a server.
            sys.modules["wandb"].teardown()
            os.environ["WANDB_MODE"] = "dryrun"
            return super().experiment


def new_run_id() -> str:
    """Draw an id for a run, as wandb does: eight letters and digits, whatever the seed is."""
    return secrets.token_hex(4)


def default_loggers(root: str, experiment: str, run_id: str | None = None) -> list[Logger]:
    """Make the loggers of a run; nothing is written before they log.

    Args:
        root: Folder of all runs.
        experiment: Name of the experiment, a folder in it.
        run_id: Id of the run at wandb, that of the run that it continues; a new one by default.
    """
    csv = ForgivingCSVLogger(root, name=experiment)
    if find_spec("wandb") is None:
        log.warning("wandb is not installed (pip install wandb): this run is logged as CSV alone")
        return [csv]
    run = Path(csv.log_dir)
    wandb = ForgivingWandbLogger(
        name=f"{experiment}-{run.name}",
        project=os.environ.get("WANDB_PROJECT", "dvae"),
        save_dir=run,
        offline=_offline(),
        id=run_id or new_run_id(),
    )
    return [csv, wandb]


def run_loggers(
    chosen: Logger | Iterable[Logger] | bool | None, root: str, experiment: str, run_id: str
) -> list[Logger]:
    """Make the loggers that ``trainer.logger`` asks for.

    A CSV is the first of them, so that Lightning takes its folder for that of the run, and puts the
    checkpoints there, whatever else logs.

    Args:
        chosen: ``None`` for `default_loggers`, ``False`` for none, ``True`` for Lightning's own
            default beside the CSV, or loggers to have beside it.
        root: Folder of all runs.
        experiment: Name of the experiment, a folder in it.
        run_id: Id of the run at wandb.
    """
    if chosen is None:
        return default_loggers(root, experiment, run_id)
    if chosen is False:
        return []
    csv = ForgivingCSVLogger(root, name=experiment)
    if chosen is True:
        version = Path(csv.log_dir).name
        # Without Lightning's placeholder for a metric, a panel of one point at -1.
        events = TensorBoardLogger(root, name=experiment, version=version, default_hp_metric=False)
        return [csv, events]
    return [csv, *([chosen] if isinstance(chosen, Logger) else chosen)]


def in_run_folder(args: list[str] | None) -> list[str] | None:
    """Have TensorBoard log into the run's folder, as ``true`` does, where no other is named.

    Args:
        args: Arguments of the command line.
    """
    words = " ".join(args or ())
    if args is None or "--trainer.logger." in words:
        return args
    whole = "--trainer.logger=TensorBoardLogger"
    given = [word.replace(whole, "--trainer.logger=true") for word in args]
    for n, pair in enumerate(pairwise(given)):
        if pair == ("--trainer.logger", "TensorBoardLogger"):
            given[n + 1] = "true"
    return given


def next_folder(root: str, experiment: str) -> Path:
    """Name the folder of a new run, as the CSV logger does; it is not made.

    Args:
        root: Folder of all runs.
        experiment: Name of the experiment, a folder in it.
    """
    return Path(CSVLogger(root, name=experiment).log_dir)


def sync_command(run: Path) -> str | None:
    """Return the command that uploads an offline wandb run, if there is one.

    Args:
        run: Folder of the run.
    """
    offline = sorted((run / "wandb").glob("offline-run-*"))
    return f"wandb sync {shlex.quote(str(offline[-1]))}" if offline else None


def _offline() -> bool:
    # An explicit WANDB_MODE is the user's word; without one, wandb would stop and ask for a key.
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode in _OFFLINE
    return not (os.environ.get("WANDB_API_KEY") or _netrc_has_key())


def _netrc_has_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        found = netrc.netrc(path).authenticators(host or "")
    except (OSError, netrc.NetrcParseError):
        return False
    return found is not None and bool(found[2])
