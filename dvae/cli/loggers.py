"""The loggers of a run: CSV always, wandb without an account or a prompt."""

import netrc
import os
import secrets
from pathlib import Path
from urllib.parse import urlparse

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

__all__ = ["default_loggers", "new_run_id", "sync_command"]


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
    csv = CSVLogger(root, name=experiment)
    run = Path(csv.log_dir)
    wandb = WandbLogger(
        name=f"{experiment}-{run.name}",
        project=os.environ.get("WANDB_PROJECT", "dvae"),
        save_dir=run,
        offline=_offline(),
        id=run_id or new_run_id(),
    )
    # Lightning passes on an argument that wandb no longer has a use for, and warns of.
    getattr(wandb, "_wandb_init", {}).pop("anonymous", None)
    return [csv, wandb]


def sync_command(run: Path) -> str | None:
    """Return the command that uploads an offline wandb run, if there is one.

    Args:
        run: Folder of the run.
    """
    offline = sorted((run / "wandb").glob("offline-run-*"))
    return f"wandb sync {offline[-1]}" if offline else None


def _offline() -> bool:
    # An explicit WANDB_MODE is the user's word; without one, wandb would stop and ask for a key.
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode in ("offline", "dryrun")
    return not (os.environ.get("WANDB_API_KEY") or _netrc_has_key())


def _netrc_has_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        found = netrc.netrc(path).authenticators(host or "")
    except (OSError, netrc.NetrcParseError):
        return False
    return found is not None and bool(found[2])
