"""The curves of all runs over each other, one colour and dash a run."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvae.compare.table import Comparison

__all__ = ["COLOURS", "DRAWING", "Look", "draw", "looks"]

# Okabe and Ito's palette without its black and its yellow: told apart by colour-blind readers, and
# seen on white and on black paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
_ALL_RUNS = "#000000"
_MARKERS = (None, "o", "s", "^", "D", "v")

# A name is text, never a formula, and text stays text in the page.
DRAWING: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "dvae",
}

# Title, unit, metric, and which end of it is the bad one, where the first epochs are far off.
_PANELS = (
    ("ELBO (val, hard)", "nats per example", "val/elbo", "low"),
    ("relaxation gap (val)", "nats per example", "val/relaxation_gap", ""),
    ("KL (val)", "nats per example", "val/kl", ""),
    ("reconstruction (val)", "nats per example", "val/reconstruction", "high"),
    ("perplexity (val)", "codes", "val/perplexity", ""),
)
_ANNEALED = (("τ", "anneal/tau"), ("β", "anneal/beta"), ("learning rate", "anneal/lr"))

_FEW_POINTS = 30
# In inches.
_WIDTH = 12.0
_HEIGHT = 6.6
_LEGEND_LINE = 0.2
# Of a line of the legend.
_CHARACTERS = 150

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Look:
    """Colour, dash and marker of a run."""

    colour: str
    dash: Any
    marker: str | None


def looks(count: int) -> list[Look]:
    """Return a look for each run: other dashes where the colours run out, then markers.

    Args:
        count: Of runs.
    """
    kinds = itertools.cycle(itertools.product(_MARKERS, _DASHES, COLOURS))
    return [Look(c, dash, marker) for marker, dash, c in itertools.islice(kinds, count)]


def draw(comparison: Comparison) -> Figure:
    """Draw six panels: what was annealed, and five figures of the validation.

    Args:
        comparison: Of the runs.

    Returns:
        The figure; call it, and save it, within ``matplotlib.rc_context(DRAWING)``.
    """
    columns = _legend_columns(comparison.labels)
    below = _LEGEND_LINE * math.ceil(len(comparison.labels) / columns) + 0.1
    figure = Figure(figsize=(_WIDTH, _HEIGHT + below), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(2, 1, height_ratios=[_HEIGHT, below])
    panels, legend = halves
    parts = panels.subfigures(2, 3)
    style = looks(len(comparison.runs))
    curves = [run.curves for run in comparison.runs]
    _annealing(parts.flat[0], curves, style)
    for part, (title, unit, name, bad_end) in zip(list(parts.flat)[1:], _PANELS, strict=True):
        axes = part.subplots()
        own = [run.get(name, ()) for run in curves]
        axes.set(title=title, xlabel="step", ylabel=unit)
        _lines(axes, own, style)
        _cut_the_start(axes, own, bad_end)
    # A label that begins with an underscore would be left out: it is given as a text afterwards.
    handles = [_handle(look) for look in style]
    texts = legend.legend(
        handles,
        [f"run {number}" for number in range(len(handles))],
        loc="center",
        ncols=columns,
        frameon=False,
        handlelength=3.5,
    ).get_texts()
    for text, label in zip(texts, comparison.labels, strict=True):
        text.set_text(label)
    return figure


def _annealing(part: Any, curves: Sequence[Mapping[str, Curve]], style: Sequence[Look]) -> None:
    """Draw τ, β and the learning rate above each other, on one axis of steps."""
    known = [(title, name) for title, name in _ANNEALED if any(run.get(name) for run in curves)]
    rows = part.subplots(max(1, len(known)), 1, sharex=True, squeeze=False)[:, 0]
    rows[0].set_title("annealing: τ, β and learning rate")
    rows[-1].set_xlabel("step")
    if not known:
        _nothing(rows[0])
    for axes, (title, name) in zip(rows, known, strict=False):
        own = [run.get(name, ()) for run in curves]
        if len({tuple(curve) for curve in own}) == 1 and len(own) > 1:
            _lines(axes, own[:1], [Look(_ALL_RUNS, "-", None)])
            _remark(axes, "the same in all runs")
        else:
            _lines(axes, own, style)
            if not all(own):
                _remark(axes, "not logged where there is no line")
        axes.set_ylabel(title)
        axes.locator_params(axis="y", nbins=4)
        axes.margins(y=0.12)
    part.align_ylabels(rows)


def _lines(axes: Axes, curves: Sequence[Curve], style: Sequence[Look]) -> None:
    for number, (curve, look) in enumerate(zip(curves, style, strict=True)):
        if not curve:
            continue
        xs, ys = zip(*curve, strict=True)
        few = len(xs) < _FEW_POINTS
        # Where curves lie on each other the lower ones are wider, so that each of them shows.
        above = sum(list(other) == list(curve) for other in curves[number + 1 :])
        axes.plot(
            xs,
            ys,
            color=look.colour,
            linestyle=look.dash,
            linewidth=1.5 + min(1.3 * above, 4.0),
            marker=look.marker or ("." if few else None),
            markevery=1 if few else max(1, len(xs) // 10),
            markersize=4,
        )
    steps = [step for curve in curves for step, _ in curve]
    if not steps:
        _nothing(axes)
        return
    axes.ticklabel_format(axis="y", useOffset=False)
    # All panels from 0, so that a step is at the same place in each.
    axes.set_xlim(0, 1.03 * max(*steps, 1))


def _cut_the_start(axes: Axes, curves: Sequence[Curve], bad_end: str) -> None:
    """Keep the first epochs, far off, from flattening the rest; every run's end stays in sight."""
    finite = [[v for _, v in curve if math.isfinite(v)] for curve in curves]
    values = sorted(value for run in finite for value in run)
    if not bad_end or len(values) < 20:
        return
    ends = [run[-1] for run in finite if run]
    tenth = len(values) // 10
    low = min(values[tenth], *ends) if bad_end == "low" else values[0]
    high = max(values[-1 - tenth], *ends) if bad_end == "high" else values[-1]
    margin = 0.08 * (high - low) + 1e-6
    axes.set_ylim(low - margin, high + margin)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", va="center")
    axes.set(xticks=[], yticks=[])


def _remark(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="right", fontsize=7.5, y=0.98, pad=0)


def _handle(look: Look) -> Line2D:
    return Line2D(
        [], [], color=look.colour, linestyle=look.dash, marker=look.marker, markersize=4, lw=2
    )


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels)) + 8
    return max(1, min(len(labels), 6, _CHARACTERS // longest))
