"""A table of images with their codes, reconstructions, probabilities and labels."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from dvae.callbacks.pictures import show_media
from dvae.models.base import DiscreteVAE
from dvae.plotting import labelled_grid, to_images

__all__ = ["latent_table", "show_table", "table_picture"]

# Integers of a code up to which each has a column of its own, to group the rows by.
_COLUMNS = 32
_PER_ROW = 16
# Of a class's name above an image: all are as far apart as the longest is wide.
_LONGEST = 16


@torch.no_grad()
def latent_table(
    model: DiscreteVAE, image: Tensor, index: Tensor, label: Sequence[int | str] | None
) -> list[dict[str, Any]]:
    """Describe images by their most probable codes.

    Likelihoods are those of the arg-max code, hence ``_mode``: in nats per image, summed over
    pixels or positions. They are no bound; `val/elbo` is.

    Args:
        model: Decodes.
        image: Pixels in [0, 1], ``(N, C, H, W)``.
        index: Their codes, integers ``(N, *positions)``.
        label: Their N classes, by name or number, if there are any.

    Returns:
        A row for each image, with pictures as PIL images.
    """
    image, index = image.to(model.device), index.to(model.device)
    noise = model.evaluation.noise("pixels", model.device)
    with model._evaluating():
        target = model.likelihood.dequantize(image, noise)
        columns = {"log_px_mode": model.log_px(model.bottleneck.embed(index)[None], target)[0]}
        if model.bottleneck.has_posterior:
            log_q = model.bottleneck(model.encoder(image)).log_prob(index[None])[0]
            columns = {"log_q_mode": log_q, **columns}
    values = {name: column.tolist() for name, column in columns.items()}
    pictures = zip(to_images(image), to_images(model.decode(index)), strict=True)
    rows = []
    for n, (original, decoded) in enumerate(pictures):
        code = index[n].flatten().tolist()
        row: dict[str, Any] = {"image": original, "reconstruction": decoded}
        if label is not None:
            row["label"] = label[n]
        row |= {name: round(column[n], 3) for name, column in values.items()}
        row["code"] = " ".join(map(str, code))
        if len(code) <= _COLUMNS:
            row |= {f"z{place}": integer for place, integer in enumerate(code)}
        rows.append(row)
    return rows


def table_picture(
    image: Tensor, reconstruction: Tensor, label: Sequence[int | str] | None
) -> Image.Image:
    """Draw the images of a table, each above its reconstruction, with its row and label.

    Args:
        image: Pixels in [0, 1], ``(N, C, H, W)``.
        reconstruction: The same.
        label: N classes, by name or number, if there are any.
    """
    pairs = torch.cat([image.cpu(), reconstruction.cpu()], -2)
    rows = range(len(image))
    words = [str(n) if label is None else f"{n}: {str(label[n])[:_LONGEST]}" for n in rows]
    what = "row" if label is None else "row: label"
    title = f"{what}; the image above the reconstruction from its most probable code"
    return labelled_grid(title, pairs, [""] * -(-len(image) // _PER_ROW), words, height=80)


def show_table(trainer: pl.Trainer, name: str, rows: list[dict[str, Any]]) -> None:
    """Write a table as CSV to ``media/`` in the run's folder and to every logger with `log_table`.

    The CSV has the numbers of the rows; `table_picture` has the images.

    Args:
        trainer: Trainer of the run; only its first process writes.
        name: Name of the table; the file has the step as well.
        rows: Rows with the same keys each, at least one.
    """
    plain = [key for key, value in rows[0].items() if not isinstance(value, Image.Image)]

    def write(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["row", *plain], extrasaction="ignore")
            writer.writeheader()
            writer.writerows({"row": n, **row} for n, row in enumerate(rows))

    def show(logger: Any) -> None:
        if hasattr(logger, "log_table"):
            data = [[n, *map(_for_wandb, row.values())] for n, row in enumerate(rows)]
            logger.log_table(key=f"media/{name}", columns=["row", *rows[0]], data=data)

    show_media(trainer, name, ".csv", write, show)


def _for_wandb(value: Any) -> Any:
    if not isinstance(value, Image.Image):
        return value
    import wandb  # only where it is the logger

    return wandb.Image(value)
