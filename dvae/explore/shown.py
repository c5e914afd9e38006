"""What each part of the page shows of a view."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw
from torch import Tensor

from dvae.explore.alternatives import Alternatives
from dvae.explore.canvas import draw_code, enlarged
from dvae.explore.codes import Look, place_name, table_of
from dvae.explore.difference import Difference, difference
from dvae.explore.images import Gallery
from dvae.explore.view import Explorer, View
from dvae.models import DiscreteVAE
from dvae.plotting import MARKED

__all__ = ["THUMBNAILS", "canvas", "headers", "pictures", "plain", "shown"]

THUMBNAILS = 24
"""Thumbnails on a page."""

# Longer side of a picture, of one among others, and of a thumbnail, at least.
_LARGE, _SMALL, _TINY = 504, 168, 84
# More changes than this are counted and not listed.
_LISTED = 12
# More integers than this are no table to read.
_CELLS = 1024


def shown(explorer: Explorer, view: View, before: View | None = None) -> dict[str, Any]:
    """Return what each part of the page shows, by the part's name.

    Args:
        explorer: What looks.
        view: What is looked at.
        before: What the page shows already: parts that stay the same may be left out.
    """
    seen = explorer.look(view)
    change = difference(seen.reconstruction, seen.decoded)
    found = explorer.alternatives(view)
    model, code = explorer.model(view), seen.changed
    parts = {
        "state": view,
        "image": view.row,
        "table": _table(code),
        "position": view.position,
        "category": int(code.view(-1)[view.position]),
        "numbers": _numbers(seen),
        "words": _words(model, view, seen, change),
        "alternatives": _choices(found),
    }
    # Gradio would write their files anew, while the browser may be reading them.
    same = before is not None and (before.image is view.image and before.number == view.number)
    if not same:
        parts["original"] = enlarged(seen.original, _LARGE)
        parts["reconstruction"] = enlarged(seen.reconstruction, _LARGE)
    if not (same and before is not None and before.edits == view.edits):
        parts["decoded"] = enlarged(seen.decoded, _LARGE)
        parts["difference"] = enlarged(change.picture, _LARGE)
    if code.dim() > 1:
        parts |= {"canvas": canvas(explorer, view), "brush": view.brush}
    if before is None or before.row // THUMBNAILS != view.row // THUMBNAILS:
        parts["thumbnails"] = _thumbnails(explorer.gallery, view.row)
    if view.palette:
        parts["palette"] = explorer.palette(view).draw(view.brush)
    if view.kept is not None and (before is None or before.kept is not view.kept):
        parts["kept"] = enlarged(model.decode(view.kept[None])[0], _SMALL)
    return parts


def canvas(explorer: Explorer, view: View) -> Image.Image:
    """Draw the code of a grid over the image.

    Args:
        explorer: What looks.
        view: What is looked at.
    """
    code = explorer.changed(view)
    mosaic = explorer.mosaic(view, code)
    return draw_code(view.image, mosaic, code, view.opacity, view.edits, view.position)


def pictures(images: Tensor, caption: Callable[[int], str]) -> list[tuple[Image.Image, str]]:
    """Return images as a gallery takes them.

    Args:
        images: Pixels in [0, 1], ``(N, C, H, W)``.
        caption: Number to what stands below an image.
    """
    return [(enlarged(image, _SMALL), caption(n)) for n, image in enumerate(images)]


def headers(shape: tuple[int, ...]) -> list[str]:
    """Name the columns of a table, see `table_of`.

    Args:
        shape: Shape of the code.
    """
    if len(shape) < 3:
        return [str(n) for n in range(shape[-1])]
    return [f"{n // shape[2]}.{n % shape[2]}" for n in range(shape[1] * shape[2])]


def plain(text: str) -> str:
    """Return text for Markdown that has none of its own: a file's name is neither that nor HTML.

    Args:
        text: The text.
    """
    return "".join(c if c.isalnum() or c in " .,-/" else f"&#{ord(c)};" for c in text)


def _table(code: Tensor) -> Any:
    if code.numel() > _CELLS:
        return gr.Dataframe(visible=False)
    return gr.Dataframe(table_of(code), headers=headers(tuple(code.shape)), visible=True)


def _thumbnails(gallery: Gallery, row: int) -> Any:
    first = row // THUMBNAILS * THUMBNAILS
    rows = range(first, min(first + THUMBNAILS, gallery.size))
    found = []
    for number in rows:
        try:
            found.append((enlarged(gallery[number][0], _TINY), gallery.label(number)))
        except ValueError:  # a damaged file, which says so when it is chosen
            found.append((Image.new("L", (_TINY, _TINY), "gray"), "damaged"))
    label = f"{gallery.name}: images {rows[0]} to {rows[-1]} of {gallery.size}"
    return gr.Gallery(found, label=label, selected_index=None)


def _choices(found: Alternatives) -> list[tuple[Image.Image, str]]:
    def caption(n: int) -> str:
        words = str(found.categories[n])
        return (
            words if found.probabilities is None else f"{words}: {_percent(found.probabilities[n])}"
        )

    choices = pictures(found.images, caption)
    if found.box is None:
        return choices
    zoom = choices[0][0].width // found.images.shape[-1]
    left, top, right, bottom = (n * zoom for n in found.box)
    framed = [(picture.convert("RGB"), words) for picture, words in choices]
    for picture, _ in framed:
        frame = (left - 2, top - 2, right + 1, bottom + 1)
        ImageDraw.Draw(picture).rectangle(frame, outline=MARKED, width=2)
    return framed


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def _numbers(seen: Look) -> str:
    lines = ["| nats | unchanged code | changed code |", "|---|---:|---:|"]
    if seen.log_q is not None:
        lines.append(f"| log q(code \\| x) | {seen.log_q[0]:.2f} | {seen.log_q[1]:.2f} |")
    lines.append(f"| log p(x \\| code) | {seen.log_px[0]:.2f} | {seen.log_px[1]:.2f} |")
    return "\n".join(lines)


def _words(model: DiscreteVAE, view: View, seen: Look, change: Difference) -> str:
    code, shape = seen.code.view(-1), tuple(seen.code.shape)
    changes = [
        f"{place_name(model, place, shape)}: {int(code[place])} → {category}"
        for place, category in sorted(view.edits.items())
    ]
    if len(changes) > _LISTED:
        changes[_LISTED:] = [f"and {len(changes) - _LISTED} more"]
    listed = "; ".join(changes) if changes else "none"
    chosen = place_name(model, view.position, shape)
    now = int(seen.changed.view(-1)[view.position])
    lines = [
        f"**Image:** {plain(view.title)}",
        f"**Chosen:** {chosen}, which has {now}",
        f"**Changes:** {listed}",
    ]
    if changes:
        lines.append(
            f"**What changed:** {change.share:.0%} of the pixels, by {change.largest:.2f} of 1 at "
            "most (orange where brighter, blue where darker)"
        )
    return "\n\n".join(lines)
