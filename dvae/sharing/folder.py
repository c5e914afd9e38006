"""A folder that is complete once it is there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_new", "new_folder"]


def check_new(folder: Path) -> None:
    """Refuse a folder that has anything in it, so that nothing of it is lost.

    Args:
        folder: May be missing.

    Raises:
        ValueError: It is not empty, or a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: choose another folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside the wanted one, which takes its place at the end.

    Args:
        folder: The wanted one; see `check_new`.

    Yields:
        Where to write; it is removed if that fails.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
