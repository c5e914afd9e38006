"""How the lab's plots look: one colour and marker an estimator, labels that do not overlap."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

__all__ = ["Look", "looks", "new_figure", "place_labels", "side_labels"]

# Okabe and Ito's palette, told apart by colour-blind readers too; its yellow is darkened for
# white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C8300")
_MARKERS = "os^Dv<>PX*phd"

_DPI = 130

FONT: Any = {"font.size": 9.0, "axes.titlesize": 10.0, "axes.spines.top": False}


@dataclass(frozen=True)
class Look:
    """Colour and marker of an estimator."""

    colour: str
    marker: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give each name a look; the markers differ where the colours run out.

    Args:
        names: In a fixed order.
    """
    return {
        name: Look(_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for number, name in enumerate(dict.fromkeys(names))
    }


def new_figure(width: float, height: float, title: str) -> Figure:
    """Make a figure of its own, without a display or global state.

    Args:
        width: In inches.
        height: In inches.
        title: Above it.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def side_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], size: float = 8.0) -> None:
    """Write names right of the axes, each at the height of its value, moved apart.

    Args:
        axes: With its final size and limits.
        labels: Value, name and colour.
        size: Of the font, in points.
    """
    (
        axes.get_xlim(),
        axes.get_ylim(),
    )  # the limits are not in the transform before they are asked for
    height = axes.get_window_extent().height
    step = 1.35 * size * axes.get_figure().dpi / 72 / height  # type: ignore[union-attr]
    anchors = [
        axes.transAxes.inverted().transform(axes.transData.transform((1.0, value)))[1]
        for value, _, _ in labels
    ]
    for (_, name, colour), anchor, y in zip(labels, anchors, _apart(anchors, step), strict=True):
        axes.annotate(
            name,
            xy=(1.0, anchor),
            xytext=(1.05, y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "relpos": (0.0, 0.5),
            },
        )


def place_labels(
    axes: Axes, labels: Sequence[tuple[float, float, str, str]], size: float = 7.0
) -> None:
    """Write a word beside each point where no word and no point is; leave it out where none fits.

    Args:
        axes: With its final size and limits.
        labels: x, y, word and colour; a word may be empty.
        size: Of the font, in points.
    """
    axes.get_xlim(), axes.get_ylim()
    pixel = axes.get_figure().dpi / 72  # type: ignore[union-attr]
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
