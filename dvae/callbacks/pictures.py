"""Where pictures go: a PNG in the run's folder and, where a logger takes images, to it too."""

import logging

import pytorch_lightning as pl
from PIL import Image

from dvae.runs.layout import run_folder

__all__ = ["are_due", "show_picture"]

log = logging.getLogger("dvae")


def are_due(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Tell whether the epoch that ends is drawn: every so many are, and the last one always.

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
    return every_n_epochs > 0 and (done % every_n_epochs == 0 or last)


def show_picture(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Write a picture to ``media/`` in the run's folder and to every logger with `log_image`.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the picture; the file has the step as well.
        picture: The picture.
    """
    if not trainer.is_global_zero:
        return
    path = run_folder(trainer).media / name / f"step_{trainer.global_step:07d}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        log.warning("cannot write %s (%s); training goes on", path, error)
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)
        if log_image is not None:
            log_image(key=f"media/{name}", images=[picture])
