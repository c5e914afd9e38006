"""Where pictures and tables go: to a file in the run's folder, and to loggers that show them."""

import csv
import gc
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from dvae.runs.layout import run_folder

__all__ = ["are_due", "freed", "picture_to_loggers", "show_picture", "show_table"]

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


@contextmanager
def freed() -> Iterator[None]:
    """Free the figures that are drawn within, which are thousands of objects in reference cycles.

    Python's collector goes by the number of objects, and would let a hundred of them pile up,
    megabytes each; and a collection of all that there is takes half a second. So nothing is
    collected within: then all of theirs are young, and a collection of the young finds them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        if was_enabled:
            gc.enable()


def show_picture(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Write a picture to ``media/`` in the run's folder, and show it in every logger that can.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the picture; the file has the step as well.
        picture: The picture.
    """
    if trainer.is_global_zero:
        _write(trainer, name, ".png", picture.save)
        picture_to_loggers(trainer, name, picture)


def picture_to_loggers(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Show a picture in every logger that can: TensorBoard, MLflow, and those with `log_image`.

    Args:
        trainer: Trainer of the run, in its first process.
        name: Name of the picture.
        picture: The picture.
    """
    key, step = f"media/{name}", trainer.global_step

    def show(logger: Any) -> None:
        if isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(picture.convert("RGB"))
            logger.experiment.add_image(key, pixels, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=key, step=step)
        elif hasattr(logger, "log_image"):
            logger.log_image(key=key, images=[picture])

    _to_loggers(trainer, name, show)


def show_table(trainer: pl.Trainer, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table as CSV to ``media/`` in the run's folder, and show it in every logger that can.

    The CSV, TensorBoard and MLflow have all but the pictures; loggers with `log_table` those too.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the table; the file has the step as well.
        rows: Rows with the same keys each, at least one.
    """
    if not trainer.is_global_zero:
        return
    title, step = f"media/{name}", trainer.global_step
    plain = [key for key, value in rows[0].items() if not isinstance(value, Image.Image)]
    cells: list[list[Any]] = [["row", *plain]]
    cells += [[n, *(row[key] for key in plain)] for n, row in enumerate(rows)]
    text = io.StringIO()
    csv.writer(text).writerows(cells)

    def show(logger: Any) -> None:
        if isinstance(logger, TensorBoardLogger):
            lines = [" | ".join(map(str, line)) for line in (cells[0], ["---"] * len(cells[0]))]
            lines += [" | ".join(map(str, line)) for line in cells[1:]]
            logger.experiment.add_text(title, "\n".join(lines), step)
        elif isinstance(logger, MLFlowLogger):
            path = f"{title}/step_{step:07d}.csv"
            logger.experiment.log_text(logger.run_id, text.getvalue(), path)
        elif hasattr(logger, "log_table"):
            shown = _for_wandb if isinstance(logger, WandbLogger) else lambda value: value
            data = [[n, *map(shown, row.values())] for n, row in enumerate(rows)]
            logger.log_table(key=title, columns=["row", *rows[0]], data=data)

    _write(trainer, name, ".csv", lambda path: path.write_bytes(text.getvalue().encode()))
    _to_loggers(trainer, name, show)


def _write(trainer: pl.Trainer, name: str, suffix: str, write: Callable[[Path], object]) -> None:
    # A disk that is full is a warning: a run is worth more than its pictures.
    path = run_folder(trainer).picture(name, trainer.global_step, suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except OSError as error:
        log.warning("cannot write %s (%s); training goes on", path, error)


def _to_loggers(trainer: pl.Trainer, name: str, show: Callable[[Any], object]) -> None:
    for logger in trainer.loggers:
        try:
            show(logger)
        except OSError as error:
            log.warning("cannot show %s to a logger (%s); training goes on", name, error)


def _for_wandb(value: Any) -> Any:
    if not isinstance(value, Image.Image):
        return value
    import wandb  # only where it is the logger

    return wandb.Image(value)
