"""Downloads through torchvision that succeed as a whole or leave nothing behind."""

import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

__all__ = ["download", "download_root"]


def download_root(data_dir: str | None) -> Path:
    """Say where downloaded data sets live; touches no disk.

    Args:
        data_dir: The folder the user named, if any.

    Returns:
        That folder, else the one in the environment variable `DVAE_DATA`, else `~/.cache/dvae`.
    """
    return Path(data_dir or os.environ.get("DVAE_DATA") or "~/.cache/dvae").expanduser()


def download(dataset: Callable[..., object], root: Path, folder: str, advice: str) -> None:
    """Download a torchvision data set into `root / folder`.

    The files are fetched into a temporary folder beside their place and renamed into it one by one
    when all of them are there, so that a file under its final name is complete, and two processes
    that download at the same time do no harm.

    Args:
        dataset: The class in `torchvision.datasets`; called with `root`, `train` and `download`.
        root: The folder that torchvision calls its root; made if need be.
        folder: What the data set makes in its root, and all that is kept of it.
        advice: What to do without a network: the rest of the error's sentence.

    Raises:
        FileNotFoundError: If the download fails, with the reason and the advice in one line.
    """
    existed = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging:
            dataset(root=staging, train=True, download=True)
            source = Path(staging)
            for file in sorted(path for path in (source / folder).rglob("*") if path.is_file()):
                target = root / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    except (OSError, RuntimeError, HTTPException, EOFError, zlib.error) as error:
        if not existed:
            with suppress(OSError):
                root.rmdir()
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{folder} is not on this machine and its download failed ({reason}): {advice}"
        ) from error
