"""Where pictures go: a PNG in the run's folder and, where a logger takes images, to it too."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

__all__ = [
    "are_due",
    "labelled_grid",
    "labelled_rows",
    "run_folder",
    "show_picture",
    "to_picture",
]

_FRAME = "#D55E00"

log = logging.getLogger("dvae")


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of the run, as the first process knows it.

    Args:
        trainer: Of the run.
    """
    # Not trainer.log_dir, which is a broadcast: one process alone would wait in it for the others.
    logger = trainer.logger
    folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
    return Path(folder or trainer.default_root_dir)


def are_due(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Tell whether there are pictures of the epoch that ends: as often as asked, and of the last.

    Args:
        trainer: At the end of a training epoch, which may be one cut short.
        every_n_epochs: Epochs between pictures; 0 for never.
    """
    done = trainer.current_epoch + 1
    last = (
        done == trainer.max_epochs
        or trainer.should_stop
        or 0 <= trainer.max_steps <= trainer.global_step
    )
    return every_n_epochs > 0 and (done % every_n_epochs == 0 or last)


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
    # A gray file of gray images is written in half the time, and each epoch writes four.
    (pixels,) = to_picture(grid[: images.shape[1]].unsqueeze(0))
    label_width = 12 + 7 * max(len(name) for name in rows)
    picture = Image.new(pixels.mode, (pixels.width + label_width, pixels.height), "white")
    picture.paste(pixels, (label_width, 0))
    draw = ImageDraw.Draw(picture)
    row_height = pixels.height / len(rows)
    for position, name in enumerate(rows):
        draw.text((6, row_height * (position + 0.5)), name, fill="black", anchor="lm")
    return picture


def to_picture(image: Tensor) -> list[Image.Image]:
    """Turn pixels in [0, 1], ``(N, C, H, W)``, into pictures."""
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    gray = pixels.shape[1] == 1
    return [
        Image.fromarray(np.ascontiguousarray(x[0] if gray else np.moveaxis(x, 0, -1)))
        for x in pixels.numpy()
    ]


def labelled_grid(
    title: str,
    images: Tensor,
    rows: Sequence[str],
    labels: Sequence[str],
    marked: Collection[int] = (),
    height: int = 40,
) -> Image.Image:
    """Draw a grid of images, each with a word above it, and a name to the left of each row.

    Args:
        title: Above the grid.
        images: Row after row, pixels in [0, 1], ``(N, C, H, W)``; the last row may be shorter.
        rows: Names of the rows, at least one.
        labels: A word for each image, as short as it is wide.
        marked: Images with a frame.
        height: Least height of an image on the picture, in pixels; small images are enlarged
            by a whole number.
    """
    zoom = max(1, -(-height // images.shape[-2]))
    pictures = [x.resize((x.width * zoom, x.height * zoom), 0) for x in to_picture(images)]
    per_row = -(-len(pictures) // len(rows))
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 12 + int(max(draw.textlength(name, font) for name in rows))
    wide = max(pictures[0].width, int(max(draw.textlength(word, small) for word in labels))) + 8
    high = pictures[0].height + 20
    width = max(left + per_row * wide + 4, int(draw.textlength(title, font)) + 16)
    picture = Image.new("RGB", (width, 24 + len(rows) * high + 4), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((6, 12), title, fill="black", anchor="lm", font=font)
    for n, (cell, word) in enumerate(zip(pictures, labels, strict=True)):
        x, y = left + n % per_row * wide + 4, 24 + n // per_row * high
        frame = (x - 2, y + 12, x + cell.width + 1, y + cell.height + 15)
        draw.rectangle(frame, fill=_FRAME if n in marked else "#cccccc")
        picture.paste(cell, (x, y + 14))
        draw.text((x + cell.width / 2, y + 6), word, fill="#333333", anchor="mm", font=small)
    for n, name in enumerate(rows):
        middle = 24 + n * high + 14 + pictures[0].height / 2
        draw.text((6, middle), name, fill="black", anchor="lm", font=font)
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
