"""What codes look like: a latent flipped through its categories, a picture for each code."""

import torch
from PIL import Image
from torch import Tensor

from dvae.bottlenecks.grid import GridBottleneck
from dvae.models.base import DiscreteVAE
from dvae.plotting import labelled_grid

__all__ = ["code_sheet", "traversal"]

# Rows and columns of a traversal that are legible on a screen.
_ROWS = 32
_COLUMNS = 16
# Positions of a grid that are flipped, along each side.
_SIDE = 3
# Codes up to which there is a picture for each.
_CODES = 512
_CHUNK = 64


def traversal(model: DiscreteVAE, index: Tensor, counts: Tensor) -> Image.Image:
    """Flip single latents of one code, all others as they are.

    A latent goes through its categories; a position of a grid through the most used codes. The
    category of the image itself has a frame.

    Args:
        model: Decodes.
        index: Code of the image, integers ``(*positions)``.
        counts: Use of the codes, ``(L, K)``, or ``(books, K)`` of a grid.
    """
    grid = isinstance(model.bottleneck, GridBottleneck)
    places = _positions(index.shape) if grid else [(latent,) for latent in range(len(index))]
    places = places[:_ROWS]
    by_use = counts.argsort(dim=1, descending=True, stable=True)[:, :_COLUMNS]
    codes: list[Tensor] = []
    words: list[str] = []
    marked: list[int] = []
    for place in places:
        book = place[0] if not grid else place[2] if len(place) == 3 else 0
        choices = by_use[book].tolist()
        # All there are come in order; a selection comes by use.
        choices = sorted(choices) if counts.shape[1] <= _COLUMNS else choices
        if int(index[place]) not in choices:
            choices[-1] = int(index[place])
        for category in choices:
            code = index.clone()
            code[place] = category
            marked += [len(codes)] if category == index[place] else []
            codes.append(code)
            words.append(str(category))
    if grid:
        rows = [f"position {','.join(map(str, place))}" for place in places]
        through = "all codes" if counts.shape[1] <= _COLUMNS else "the most used codes"
        title = f"traversal: one position of one image through {through} (frame: its own)"
    else:
        rows = [f"latent {place[0]}" for place in places]
        title = "traversal: each latent of one image through its categories (frame: its own)"
    return labelled_grid(title, _decode(model, torch.stack(codes)), rows, words, marked)


def code_sheet(model: DiscreteVAE, counts: Tensor) -> Image.Image | None:
    """Decode, for each code, a grid full of it, in order of use.

    Args:
        model: Its bottleneck has one code book.
        counts: Use of the codes, ``(K,)``.

    Returns:
        The picture, or ``None`` where there are too many codes to be legible.
    """
    assert isinstance(model.bottleneck, GridBottleneck)
    if len(counts) > _CODES:
        return None
    order = counts.argsort(descending=True, stable=True)
    shape = model.bottleneck.index_shape
    images = _decode(model, order.view(-1, *[1] * len(shape)).expand(-1, *shape))
    dead = int((counts == 0).sum())
    title = f"each code decoded alone, a grid full of it, by use ({dead} dead: with a frame)"
    rows = [""] * -(-len(counts) // _COLUMNS)
    marked = range(len(counts) - dead, len(counts))
    return labelled_grid(title, images, rows, [str(k) for k in order.tolist()], marked)


def _positions(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Spread a few positions over a grid; of several integers there the first."""
    height, width = shape[:2]
    rows, columns = (
        sorted({(2 * n + 1) * size // (2 * _SIDE) for n in range(_SIDE)})
        for size in (height, width)
    )
    rest = (0,) * (len(shape) - 2)
    return [(row, column, *rest) for row in rows for column in columns]


def _decode(model: DiscreteVAE, index: Tensor) -> Tensor:
    parts = index.to(model.device).split(_CHUNK)
    return torch.cat([model.decode(part).float().cpu() for part in parts])
