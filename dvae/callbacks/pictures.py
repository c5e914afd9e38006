"""Where pictures and tables go: to a file in the run's folder, and to loggers that show them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image

from dvae.runs.layout import run_folder

__all__ = ["are_due", "show_media", "show_picture"]

log = logging.getLogger("dvae")


def are_due(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Tell whether this process draws the epoch that ends: the first does so every so many epochs.

    And the last one always.

    Args:
        trainer: Trainer at the end of a training epoch, which may be one cut short.
        every_n_epochs: Epochs between pictures; 0 for never.
    """
    done = trainer.current_epoch + 1
    last = (
        done == trainer.max_epochs
        or trainer.should_stop
        or 0 <= trainer.max_steps <= trainer.global_step
    )
    due = every_n_epochs > 0 and (done % every_n_epochs == 0 or last)
    return due and trainer.is_global_zero


def show_media(
    trainer: pl.Trainer,
    name: str,
    suffix: str,
    write: Callable[[Path], object],
    show: Callable[[Any], object],
) -> None:
    """Write a file to ``media/`` in the run's folder, and show its content to every logger.

    A disk that is full is a warning: a run is worth more than its pictures.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the content; the file has the step as well.
        suffix: Suffix of the file, with its dot.
        write: Function that writes the file at a path.
        show: Function that shows the content to a logger, if that can show it.
    """
    if not trainer.is_global_zero:
        return
    path = run_folder(trainer).media / name / f"step_{trainer.global_step:07d}{suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        log.warning("cannot write %s (%s); training goes on", path, error)
    for logger in trainer.loggers:
        try:
            show(logger)
        except OSError as error:
            log.warning("cannot show %s to a logger (%s); training goes on", name, error)


def show_picture(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Write a picture to ``media/`` in the run's folder and to every logger with `log_image`.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the picture; the file has the step as well.
        picture: The picture.
    """

    def show(logger: Any) -> None:
        if hasattr(logger, "log_image"):
            logger.log_image(key=f"media/{name}", images=[picture])

    show_media(trainer, name, ".png", picture.save, show)
