"""The texts in the folder of a run, whole or absent."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import LightningEnum

from dvae.runs.files import write_whole
from dvae.runs.layout import run_folder

__all__ = ["SaveConfig", "SaveText", "make_plain"]


def make_plain(settings: Any) -> Any:
    """Make plain words of Lightning's enumerated ones, which a YAML file cannot hold.

    Args:
        settings: Part of a config; namespaces, lists and mappings are changed in place.

    Returns:
        The same, or the word.
    """
    if isinstance(settings, LightningEnum):
        return settings.value
    if isinstance(settings, list):
        settings[:] = [make_plain(value) for value in settings]
    elif isinstance(settings, (Namespace, dict)):
        content = settings if isinstance(settings, dict) else vars(settings)
        for key, value in content.items():
            content[key] = make_plain(value)
    return settings


class SaveConfig(SaveConfigCallback):
    """Lightning's, whose file is never half-written; loggers get the settings too.

    The CSV logger does not: its folder has the file.

    Args:
        args: Arguments of Lightning's class.
        kwargs: Keyword arguments of Lightning's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["save_to_log_dir"] = False
        super().__init__(*args, **kwargs)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file.

        Args:
            trainer: Trainer of the run.
            pl_module: Unused.
            stage: Unused.

        Raises:
            OSError: It could not be written, or another run's is there.
        """
        path = run_folder(trainer).config
        if path.is_file():
            raise FileExistsError(
                f"{path} is that of another run: choose another folder with "
                "trainer.default_root_dir or experiment"
            )
        text = self.parser.dump(self.config, skip_none=False)
        _write(path, text)
        loggers = trainer.loggers if trainer.enable_autolog_hparams else []
        for logger in loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_hyperparams(yaml.safe_load(text))


class SaveText(Callback):
    """Put a text into the folder of the run.

    Args:
        name: Name of the file.
        text: Content of the file.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        if trainer.is_global_zero:
            _write(run_folder(trainer).path / self.name, self.text)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
