"""The texts in the folder of a run, whole or absent."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace, get_loader, set_loader
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import LightningEnum

from dvae.runs.files import write_whole
from dvae.runs.former import modern_data
from dvae.runs.layout import run_folder

__all__ = ["MODE", "SaveConfig", "make_plain"]

MODE = "yaml of any age"
"""Mode of the parser: YAML, in which configs of former versions mean what they meant."""


def _load(text: str) -> Any:
    found = get_loader("yaml")(text)
    if isinstance(found, dict):
        modern_data(found.get("data"))
    return found


set_loader(MODE, _load, (yaml.YAMLError,))


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

    Attributes:
        init_from: What the run has of another's checkpoint, for a file beside it; empty for none.
    """

    init_from = ""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the files.

        Args:
            trainer: Trainer of the run.
            pl_module: Unused.
            stage: Unused.

        Raises:
            OSError: One could not be written, or another run's is there.
        """
        run = run_folder(trainer)
        path = run.config
        if path.is_file():
            raise FileExistsError(
                f"{path} is that of another run: choose another folder with "
                "trainer.default_root_dir or experiment"
            )
        text = self.parser.dump(self.config, skip_none=False)
        _write(path, text)
        if self.init_from:
            _write(run.path / "init_from.txt", self.init_from)
        loggers = trainer.loggers if trainer.enable_autolog_hparams else []
        for logger in loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_hyperparams(yaml.safe_load(text))


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
