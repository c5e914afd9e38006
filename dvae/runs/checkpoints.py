"""Checkpoints of a run: written whole, checked byte by byte, read once and without running code."""

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from dvae.runs.files import write_whole
from dvae.runs.former import modern_settings, modern_state

__all__ = ["ADDING_UP", "Checkpoint", "SafeCheckpointIO", "read_checkpoint"]

ADDING_UP = "adding_up"
"""Key of a checkpoint: whether it was saved while gradients were added up, which are not in it."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint; no code in it is executed.

    Args:
        path: The file.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is cut short, a byte of it has changed, it holds more than plain data, or is
            no checkpoint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no checkpoint that can be read safely: it is damaged, or holds objects "
            "other than tensors and plain values, which would have to be executed"
        ) from error
    except Exception as error:  # of a damaged file torch.load raises all sorts of things
        raise ValueError(
            f"{path} is cut short or damaged: use another checkpoint of the run"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{path} is no checkpoint of a model: it has no state_dict")
    content["state_dict"] = modern_state(content["state_dict"])
    content["translated"] = modern_settings(content.get("hyper_parameters"))
    return content


def _check_sums(path: str | Path) -> None:
    # torch writes a checksum of every tensor and does not look at it when it reads.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)


class Checkpoint:
    """A checkpoint that is read when it is first asked for, and kept until it is taken.

    Args:
        path: Path of the file.
        content: What is in the file, where it has been read.
    """

    def __init__(self, path: str | Path, content: dict[str, Any] | None = None) -> None:
        self.path, self._content = Path(path), content

    @property
    def content(self) -> dict[str, Any]:
        """What is in the file; see `read_checkpoint`."""
        if self._content is None:
            self._content = read_checkpoint(self.path)
        return self._content

    def take(self) -> dict[str, Any]:
        """Hand over what is in the file, which is not kept any longer."""
        content, self._content = self.content, None
        return content

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return int(self.content.get("global_step", 0))


class SafeCheckpointIO(TorchCheckpointIO):
    """Write checkpoints whole, and read them safely: see `whole_file` and `read_checkpoint`.

    Local files only; any other address is left to Lightning.

    Args:
        resumed: Checkpoint that the trainer will ask for, which may have been read already.
    """

    def __init__(self, resumed: Checkpoint | None = None) -> None:
        super().__init__()
        self._resumed = resumed

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the file.

        Args:
            checkpoint: Content of the file.
            path: Path of the file.
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
            path: Path of the file.
            map_location: Unused: tensors come to the CPU, from where Lightning takes them.
            weights_only: Unused: nothing else is ever read.
        """
        if self._resumed is not None and self._resumed.path == Path(path):
            return self._resumed.take()
        return read_checkpoint(path)
