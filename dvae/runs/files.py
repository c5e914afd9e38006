"""Files that are whole or absent, and folders that can be written to."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "check_folder",
    "check_new",
    "check_room",
    "clear_parts",
    "read_text",
    "whole_file",
    "whole_files",
    "whole_folder",
    "write_whole",
]

# Ending of a file that is being written; what a killed process leaves of it has no other name.
_PART = ".part"

# Bytes of a run's first files: the config, the log of the first steps and what wandb begins with.
_ROOM = 2**20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside a file; what is written there is forced to the disk, then renamed.

    A process that dies at any moment, or a machine that loses its power, leaves the file that was
    there before or the complete new one.

    Args:
        path: Path of the file; folders that are missing are made.

    Yields:
        The place to write to, which is removed if that fails.

    Raises:
        OSError: It could not be written; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + _PART)
    try:
        with _locked(part) as file:
            yield part
            os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    # The new name is on the disk only once its folder is.
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole, see `whole_file`.

    Args:
        path: Path of the file.
        content: Bytes of the file.

    Raises:
        OSError: It could not be written; what was there before is as it was.
    """
    with whole_file(path) as part:
        part.write_bytes(content)


@contextmanager
def whole_files(folder: Path, only: str = "") -> Iterator[Path]:
    """Give a place for files, which move into a folder when all are complete.

    Args:
        folder: Folder of the files; made if it is not there.
        only: Folder in that place to which all the files belong; others are left out.

    Yields:
        The folder to write to, which is removed in any case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Inside, and so on the same disk: the moves at the end cannot stop half-way through a file.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as name:
        yield Path(name)
        for file in sorted(path for path in Path(name, only).rglob("*") if path.is_file()):
            target = folder / file.relative_to(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a place for a folder, which takes its name when it is complete.

    Args:
        folder: Path of the folder; see `check_new`.

    Yields:
        The folder to write to, which is removed if that fails.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_text(path: Path) -> str:
    """Read a text of a run.

    Args:
        path: File that the run has left.

    Raises:
        ValueError: The file is missing, or no text in UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}, which a run leaves there") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


def clear_parts(folder: Path) -> None:
    """Remove what killed processes were writing; what a live one is writing stays.

    Args:
        folder: Folder of whole files; it need not exist.
    """
    for part in folder.glob(f"*{_PART}"):
        try:
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
        except OSError:  # another process has it, or it is not ours to remove
            continue


def check_new(folder: Path) -> None:
    """Refuse a folder that has anything in it, so that nothing of it is lost.

    Args:
        folder: Folder to be; it may be missing.

    Raises:
        ValueError: It is not empty, or a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: choose another folder")


def check_folder(folder: Path) -> None:
    """Refuse a folder of ``--out`` that could not be written, before any work is done.

    Args:
        folder: Folder to be; it need not exist.

    Raises:
        OSError: It is a file, or lies where nothing may be written.
    """
    there = _existing(folder)
    if not there.is_dir():
        what = "is a file; name a folder" if there == folder else "is not a folder"
        raise NotADirectoryError(f"--out {folder}: {there} {what}")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"--out {folder}: nothing may be written to {there}")


def check_room(folder: Path) -> None:
    """Refuse a folder that cannot take the first files of a run; nothing is left there.

    Args:
        folder: Folder of the run; it need not exist.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    try:
        # Without a name, so that whatever happens nothing of it stays.
        with tempfile.TemporaryFile(dir=_existing(folder.absolute())) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error.strerror or error}; make room, or choose another "
            "folder with trainer.default_root_dir"
        ) from error


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _locked(part: Path) -> BinaryIO:
    # The lock ends with the process, however that ends.
    while True:
        file = part.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was cleared between the two calls
