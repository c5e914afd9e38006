"""The texts in the folder of a run, whole or absent, and room for it to begin."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import SaveConfigCallback

from dvae.callbacks.checkpoint_io import write_whole
from dvae.callbacks.pictures import run_folder

__all__ = ["SaveConfig", "SaveText", "check_room"]

# Bytes: the config, the log of the first steps and what wandb begins with.
_ROOM = 2**20


def check_room(folder: Path) -> None:
    """Refuse a folder that cannot take the first files of a run; nothing is left there.

    Args:
        folder: Of the run; it need not exist.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        # Without a name, so that whatever happens nothing of it stays.
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error.strerror or error}; make room, or choose another "
            "folder with trainer.default_root_dir"
        ) from error


class SaveConfig(SaveConfigCallback):
    """Lightning's, whose file is never half-written.

    Args:
        args: Of Lightning's class.
        kwargs: Of Lightning's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["save_to_log_dir"] = False
        super().__init__(*args, **kwargs)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file.

        Args:
            trainer: Of the run.
            pl_module: Unused.
            stage: Unused.

        Raises:
            OSError: It could not be written, or another run's is there.
        """
        path = run_folder(trainer) / self.config_filename
        if path.is_file():
            raise FileExistsError(
                f"{path} is that of another run: choose another folder with "
                "trainer.default_root_dir or experiment"
            )
        _write(path, self.parser.dump(self.config, skip_none=False))


class SaveText(Callback):
    """Put a text into the folder of the run.

    Args:
        name: Of the file.
        text: Its content.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            _write(run_folder(trainer) / self.name, self.text)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
