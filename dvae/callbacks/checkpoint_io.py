"""Checkpoint files that are whole or absent, and that are read without executing anything."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from dvae.models.weights import read_checkpoint
from dvae.runs.files import write_whole

__all__ = ["SafeCheckpointIO"]


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
