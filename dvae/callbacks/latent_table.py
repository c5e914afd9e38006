"""A table of images with their codes, reconstructions, probabilities and labels."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dvae.models.base import DiscreteVAE
from dvae.plotting import labelled_grid, to_images

__all__ = ["latent_table", "table_picture"]

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
        A row for each image, with pictures as PIL images; of other events without pictures.
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
    pictures = {}
    if model.likelihood.pixels:
        pictures = {"image": to_images(image), "reconstruction": to_images(model.decode(index))}
    rows = []
    for n in range(len(image)):
        code = index[n].flatten().tolist()
        row: dict[str, Any] = {name: drawn[n] for name, drawn in pictures.items()}
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
