"""One look for all pictures: colours, figures, labels that do not overlap, grids of images."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

__all__ = [
    "COLOURS",
    "MARKED",
    "Style",
    "in_style",
    "labelled_grid",
    "labelled_rows",
    "line_styles",
    "new_figure",
    "place_labels",
    "point_styles",
    "save_figure",
    "side_labels",
    "tiled",
    "to_image",
    "to_images",
]

# Okabe and Ito's palette without its black and its yellow: told apart by colour-blind readers, and
# seen on white and on black paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# Dead codes, and images with a frame.
MARKED = COLOURS[1]

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
_LINE_MARKERS = (None, "o", "s", "^", "D", "v")
_POINT_COLOURS = (*COLOURS, "#000000", "#8c8300")
_POINT_MARKERS = "os^Dv<>PX*phd"
_DPI = 130

in_style = matplotlib.rc_context(
    {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10.0,
        "font.size": 9.0,
        "legend.frameon": False,
        # Text stays text in a page, and two drawings of the same are the same file.
        "svg.fonttype": "none",
        "svg.hashsalt": "dvae",
    }
)
"""Decorates a function that makes, draws or saves a figure."""


Style: TypeAlias = dict[str, Any]
"""How a curve or a cloud of points looks, as keywords of matplotlib's ``plot``."""


def line_styles(count: int) -> list[Style]:
    """Return a style for each curve: other dashes where the colours run out, then markers.

    Args:
        count: Number of curves.
    """
    kinds = islice(cycle(product(_LINE_MARKERS, _DASHES, COLOURS)), count)
    return [{"color": c, "linestyle": dash, "marker": marker} for marker, dash, c in kinds]


def point_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each name, with a marker that tells points of one colour apart.

    Args:
        names: Names in a fixed order.
    """
    kinds = zip(dict.fromkeys(names), cycle(_POINT_COLOURS), cycle(_POINT_MARKERS), strict=False)
    return {name: {"color": colour, "marker": marker} for name, colour, marker in kinds}


def new_figure(width: float, height: float, title: str = "", layout: Any = "constrained") -> Figure:
    """Make a figure of its own, without a display or global state: nothing has to close it.

    Args:
        width: Width in inches.
        height: Height in inches.
        title: Title above all axes.
        layout: Layout engine of matplotlib; None for axes that are placed by hand.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout)
    if title:
        figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


@in_style
def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Args:
        figure: Figure of `new_figure`.
        path: Path of the file.

    Raises:
        OSError: It cannot be written.
    """
    figure.savefig(path)


@in_style
def to_image(figure: Figure) -> Image.Image:
    """Draw a figure.

    Args:
        figure: Figure of `new_figure`.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def side_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], size: float = 8.0) -> None:
    """Write names right of the axes, each at the height of its value, moved apart.

    Args:
        axes: Axes with their final size and limits.
        labels: Value, name and colour of each.
        size: Size of the font in points.
    """
    box, pixel = axes.get_window_extent(), _pixels_per_point(axes)
    step, aside = 1.35 * size * pixel / box.height, 16 * pixel / box.width
    anchors = [
        axes.transAxes.inverted().transform(axes.transData.transform((1.0, value)))[1]
        for value, _, _ in labels
    ]
    line: Any = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 1, "relpos": (0.0, 0.5)}
    for (_, name, colour), anchor, y in zip(labels, anchors, _apart(anchors, step), strict=True):
        axes.annotate(
            name,
            xy=(1.0, anchor),
            xytext=(1.0 + aside, y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops=line | {"color": colour},
        )


def place_labels(
    axes: Axes, labels: Sequence[tuple[float, float, str, str]], size: float = 7.0
) -> None:
    """Write a word beside each point where no word and no point is; leave it out where none fits.

    Args:
        axes: Axes with their final size and limits.
        labels: x, y, word and colour of each; a word may be empty.
        size: Size of the font in points.
    """
    pixel = _pixels_per_point(axes)
    points = [tuple(axes.transData.transform((x, y))) for x, y, _, _ in labels]
    half = 0.5 * 0.55 * size * pixel
    taken = [(x - half, y - half, x + half, y + half) for x, y in points]
    for (x, y), (at_x, at_y, word, colour) in zip(points, labels, strict=True):
        if not word:
            continue
        width, height = 0.7 * size * pixel * len(word), 1.1 * size * pixel
        for dx, dy in ((6, 6), (6, -12), (-6, 6), (-6, -12), (9, -3), (-9, -3)):
            left = x + dx * pixel - (width if dx < 0 else 0)
            box = (left, y + dy * pixel, left + width, y + dy * pixel + height)
            if not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    word,
                    xy=(at_x, at_y),
                    xytext=(dx, dy),
                    textcoords="offset points",
                    ha="right" if dx < 0 else "left",
                    color=colour,
                    fontsize=size,
                    # Legible where a line runs below it.
                    path_effects=[withStroke(linewidth=2, foreground="white")],
                )
                break


def to_images(image: Tensor) -> list[Image.Image]:
    """Turn pixels into pictures, grayscale where there is one channel.

    Args:
        image: Pixels in [0, 1], ``(N, C, H, W)``.
    """
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return [to_pil_image(one) for one in pixels]


def tiled(images: Tensor, per_row: int) -> Image.Image:
    """Draw images row after row, ``per_row`` in each; pixels in [0, 1], ``(N, C, H, W)``."""
    grid = make_grid(images, nrow=per_row, padding=2, pad_value=1.0)
    # A gray file of gray images is written in half the time, and each epoch writes four.
    (pixels,) = to_images(grid[: images.shape[1]].unsqueeze(0))
    return pixels


def labelled_rows(rows: Mapping[str, Tensor], height: int = 56) -> Image.Image:
    """Draw rows of images, each with its name on the left.

    Args:
        rows: Images by name, pixels in [0, 1], each ``(N, C, H, W)``.
        height: Least height of an image on the picture, in pixels; small images are enlarged
            by a whole number.
    """
    images = torch.cat([image.detach().float().cpu().clamp(0, 1) for image in rows.values()])
    zoom = _zoom(images, height)
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    per_row = len(next(iter(rows.values())))
    pixels = tiled(images, per_row)
    font = ImageFont.load_default(13)
    left = _left(rows, font)
    picture = Image.new(pixels.mode, (pixels.width + left, pixels.height), "white")
    picture.paste(pixels, (left, 0))
    draw = ImageDraw.Draw(picture)
    for position, name in enumerate(rows):
        middle = pixels.height / len(rows) * (position + 0.5)
        draw.text((6, middle), name, fill="black", anchor="lm", font=font)
    return picture


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
        title: Title above the grid.
        images: Images row after row, pixels in [0, 1], ``(N, C, H, W)``; the last row may be
            shorter.
        rows: Names of the rows, at least one.
        labels: A word for each image, as short as it is wide.
        marked: Numbers of the images with a frame.
        height: Least height of an image on the picture, in pixels; small images are enlarged
            by a whole number.
    """
    zoom = _zoom(images, height)
    pictures = [x.resize((x.width * zoom, x.height * zoom), 0) for x in to_images(images)]
    per_row = -(-len(pictures) // len(rows))
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    left = _left(rows, font)
    wide = max(pictures[0].width, *(int(small.getlength(word)) for word in labels)) + 8
    high = pictures[0].height + 20
    width = max(left + per_row * wide + 4, int(font.getlength(title)) + 16)
    picture = Image.new("RGB", (width, 24 + len(rows) * high + 4), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((6, 12), title, fill="black", anchor="lm", font=font)
    for n, (cell, word) in enumerate(zip(pictures, labels, strict=True)):
        x, y = left + n % per_row * wide + 4, 24 + n // per_row * high
        frame = (x - 2, y + 12, x + cell.width + 1, y + cell.height + 15)
        draw.rectangle(frame, fill=MARKED if n in marked else "#cccccc")
        picture.paste(cell, (x, y + 14))
        draw.text((x + cell.width / 2, y + 6), word, fill="#333333", anchor="mm", font=small)
    for n, name in enumerate(rows):
        middle = 24 + n * high + 14 + pictures[0].height / 2
        draw.text((6, middle), name, fill="black", anchor="lm", font=font)
    return picture


def _zoom(images: Tensor, height: int) -> int:
    return max(1, -(-height // images.shape[-2]))


def _left(names: Iterable[str], font: Any) -> int:
    """Return the width of a column of names, in pixels."""
    return 12 + int(max(font.getlength(name) for name in names))


def _pixels_per_point(axes: Axes) -> float:
    # The limits are not in the transform before they are asked for.
    axes.get_xlim(), axes.get_ylim()
    return axes.get_figure().dpi / 72  # type: ignore[union-attr]


def _apart(wanted: Sequence[float], step: float) -> list[float]:
    """Move positions up and down until neighbours are a step apart, centred where they were."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[tuple[float, int]] = []  # centre and size of what has been pushed together
    for i in order:
        centre, size = wanted[i], 1
        while groups and centre - groups[-1][0] < step * (size + groups[-1][1]) / 2:
            other, other_size = groups.pop()
            centre = (centre * size + other * other_size) / (size + other_size)
            size += other_size
        groups.append((centre, size))
    spread = [centre + step * (k - (n - 1) / 2) for centre, n in groups for k in range(n)]
    result = [0.0] * len(wanted)
    for i, position in zip(order, spread, strict=True):
        result[i] = position
    return result


def _overlap(a: Any, b: Any) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
