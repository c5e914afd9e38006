"""Checkpoint files that are whole or absent, and that are read without executing anything."""

import fcntl
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from dvae.models.weights import read_checkpoint

__all__ = ["PART", "SafeCheckpointIO", "clear_parts", "write_whole"]

PART = ".part"
"""Ending of a file that is being written; what a killed process leaves of it is no checkpoint."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, force it to the disk, then rename it.

    A process that dies at any moment, or a machine that loses its power, leaves the file that was
    there before or the complete new one. Reading checks every byte against the file's checksums.
    Local files only; any other address is left to Lightning.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the file.

        Args:
            checkpoint: Its content.
            path: Its place.
            storage_options: Not supported, as in the base class.

        Raises:
            OSError: It could not be written; what was there before is as it was.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # Into memory first: an error of the disk inside torch.save would be no OSError.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getbuffer())

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read the file; see `read_checkpoint`.

        Args:
            path: Its place.
            map_location: Unused: tensors come to the CPU, from where Lightning takes them.
            weights_only: Unused: nothing else is ever read.
        """
        return read_checkpoint(path)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file beside its place, force it to the disk, then rename it.

    Args:
        path: Its place; folders that are missing are made.
        content: Its bytes.

    Raises:
        OSError: It could not be written; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    try:
        with _locked(part) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def clear_parts(folder: Path) -> None:
    """Remove what killed processes were writing; what a live one is writing stays.

    Args:
        folder: Of checkpoints; it need not exist.
    """
    for part in folder.glob(f"*{PART}"):
        try:
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)
        except OSError:  # another process has it, or it is not ours to remove
            continue


def _locked(part: Path) -> BinaryIO:
    # The lock ends with the process, however that ends.
    while True:
        file = part.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was cleared between the two calls


def _sync_folder(folder: Path) -> None:
    # The new name is on the disk only once its folder is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
