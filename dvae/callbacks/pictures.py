"""Where pictures go: a PNG in the run's folder and, where a logger takes images, to it too."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.utils import make_grid

__all__ = ["labelled_rows", "run_folder", "show_picture"]

log = logging.getLogger("dvae")


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of the run.

    Args:
        trainer: Of the run.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def labelled_rows(rows: Mapping[str, Tensor], height: int = 56) -> Image.Image:
    """Draw rows of images, each with its name on the left.

    Args:
        rows: Images by name, pixels in [0, 1], each ``(N, C, H, W)``.
        height: Least height of an image on the picture, in pixels; small images are enlarged
            by a whole number.
    """
    images = torch.cat([image.detach().float().cpu().clamp(0, 1) for image in rows.values()])
    zoom = max(1, -(-height // images.shape[-2]))
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    per_row = len(next(iter(rows.values())))
    grid = make_grid(images, nrow=per_row, padding=2, pad_value=1.0)
    pixels = (grid * 255).round().byte().permute(1, 2, 0).numpy()
    label_width = 12 + 7 * max(len(name) for name in rows)
    picture = Image.new("RGB", (pixels.shape[1] + label_width, pixels.shape[0]), "white")
    picture.paste(Image.fromarray(np.ascontiguousarray(pixels)), (label_width, 0))
    draw = ImageDraw.Draw(picture)
    row_height = pixels.shape[0] / len(rows)
    for position, name in enumerate(rows):
        draw.text((6, row_height * (position + 0.5)), name, fill="black", anchor="lm")
    return picture


def show_picture(trainer: pl.Trainer, name: str, picture: Image.Image) -> None:
    """Write a picture to ``media/`` in the run's folder and to every logger with `log_image`.

    Args:
        trainer: Of the run; only its first process writes.
        name: Of the picture; the file has the step as well.
        picture: The picture.
    """
    if not trainer.is_global_zero:
        return
    path = run_folder(trainer) / "media" / name / f"step_{trainer.global_step:07d}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        log.warning("cannot write %s (%s); training goes on", path, error)
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)
        if log_image is not None:
            log_image(key=f"media/{name}", images=[picture])
