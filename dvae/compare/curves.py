"""The curves of one run, or of several over each other."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvae.plotting import Style, in_style, line_styles, new_figure

__all__ = ["ANNEALED", "PANELS", "Curve", "draw_curves"]

Curve = Sequence[tuple[int, float]]
"""Steps and values."""

# Title, unit, metrics, and which end is the bad one, where the first epochs are far off; or that
# the axis is logarithmic. Several runs have a line each, of the first metric, which is what the
# brackets of the title and the unit before its comma say. What no run has logged is left out.
PANELS = (
    ("ELBO (val, hard)", "nats per example", ("val/elbo", "train/elbo", "val/elbo_relaxed"), "low"),
    ("relaxation gap (val)", "nats per example", ("val/relaxation_gap",), ""),
    ("KL (val)", "nats per example", ("val/kl", "train/kl"), ""),
    (
        "reconstruction (val)",
        "nats per example",
        ("val/reconstruction", "train/reconstruction"),
        "high",
    ),
    ("perplexity (val)", "codes", ("val/perplexity", "val/dead_codes"), ""),
    (
        "prior (val)",
        "bits per integer",
        ("val/prior_bits_per_token", "val/uniform_bits_per_token"),
        "",
    ),
    ("gradient's variance (probe)", "trace of the covariance", ("probe/variance",), "log"),
    *(
        (f"gradient against {words}", "relative bias, cosine of one draw", names, "")
        for words, names in (
            (
                "the exact one (probe)",
                ("probe/relative_bias_vs_enumeration", "probe/cosine_vs_enumeration"),
            ),
            ("many draws (probe)", ("probe/relative_bias_vs_rloo", "probe/cosine_vs_rloo")),
        )
    ),
)
ANNEALED = (("τ", "anneal/tau"), ("β", "anneal/beta"), ("learning rate", "anneal/lr"))

_ALL_RUNS = "#000000"
_REMARK = 7.5  # points
_FEW_POINTS = 30
_ROUNDING = 1e-3  # nats
# In inches.
_WIDTH = 4.0
_HEIGHT = 6.6
_LEGEND_LINE = 0.2
# Of a line of the legend.
_CHARACTERS = 150


@in_style
def draw_curves(
    runs: Sequence[Mapping[str, Curve]], labels: Sequence[str], warning: str = ""
) -> Figure:
    """Draw what was annealed and what was logged of the training, a panel each.

    Args:
        runs: Curves of each run by metric. Of a single run training and validation are drawn, of
            several the validation.
        labels: Name of each run, for the legend of several.
        warning: What is to be said of log-likelihoods on one axis, if anything.
    """
    alone, styles = len(runs) == 1, line_styles(len(runs))
    shown = [panel for panel in PANELS if _is_logged(panel[2] if alone else panel[2][:1], runs)]
    across = -(-(1 + len(shown)) // 2)
    columns = _legend_columns(labels)
    below = 0.0 if alone else _LEGEND_LINE * math.ceil(len(labels) / columns) + 0.1
    figure = new_figure(_WIDTH * max(across, 2), _HEIGHT + below)
    panels: Any = figure
    if not alone:
        panels, legend = figure.subfigures(2, 1, height_ratios=[_HEIGHT, below])  # type: ignore[misc]
        _legend(legend, styles, labels, columns)
    # Of an odd number those of the lower row are wider, so that no place is empty.
    rows = panels.subfigures(2 if shown else 1, 1, squeeze=False).flat
    counts = (across, 1 + len(shown) - across)
    parts = [p for row, n in zip(rows, counts, strict=False) for p in _across(row, n)]
    _annealing(parts[0], runs, styles)
    for part, (title, unit, names, bad_end) in zip(parts[1:], shown, strict=True):
        axes = part.subplots()
        axes.set(title=title.split(" (")[0] if alone else title, xlabel="step")
        axes.set_ylabel(unit if alone else unit.split(", ")[0])
        if alone:
            # The validation comes last, on top of what has a point at each step.
            own = {name: runs[0][name] for name in reversed(names) if runs[0].get(name)}
            by_name = dict(zip(names, line_styles(len(names)), strict=True))
            _lines(axes, list(own.values()), [by_name[name] for name in own])
            axes.legend(axes.lines, list(own))
        else:
            own = {str(n): run.get(names[0], ()) for n, run in enumerate(runs)}
            _lines(axes, list(own.values()), styles)
            if "val/uniform_bits_per_token" in names:
                _uniform(axes, [run[names[1]][-1][1] for run in runs if run.get(names[1])])
            if warning and any(name in names for name in ("val/elbo", "val/reconstruction")):
                _remark(axes, warning)
        if bad_end == "log":
            axes.set_yscale("log", nonpositive="mask")
        else:
            _cut_the_start(axes, list(own.values()), bad_end)
    return figure


def _is_logged(names: Sequence[str], runs: Sequence[Mapping[str, Curve]]) -> bool:
    curves = [run[name] for run in runs for name in names if run.get(name)]
    if names == ("val/relaxation_gap",):  # of hard codes there is none, but for rounding
        return any(abs(value) > _ROUNDING for curve in curves for _, value in curve)
    return bool(curves)


def _across(part: Any, count: int) -> list[Any]:
    return list(part.subfigures(1, count, squeeze=False).flat)


def _uniform(axes: Axes, bits: Sequence[float]) -> None:
    """Draw what a uniform prior takes, where that is the same in all runs."""
    if len(set(bits)) == 1:
        axes.axhline(bits[0], color=_ALL_RUNS, linestyle=":")
        _remark(axes, "dotted: a uniform prior")


def _annealing(part: Any, runs: Sequence[Mapping[str, Curve]], styles: Sequence[Style]) -> None:
    """Draw τ, β and the learning rate above each other, on one axis of steps."""
    known = [(title, name) for title, name in ANNEALED if any(run.get(name) for run in runs)]
    rows = part.subplots(max(1, len(known)), 1, sharex=True, squeeze=False)[:, 0]
    rows[0].set_title("annealing: τ, β and learning rate")
    rows[-1].set_xlabel("step")
    if not known:
        _nothing(rows[0])
    for axes, (title, name) in zip(rows, known, strict=False):
        own = [run.get(name, ()) for run in runs]
        if len({tuple(curve) for curve in own}) == 1 and len(own) > 1:
            _lines(axes, own[:1], [{"color": _ALL_RUNS, "marker": None}])
            _remark(axes, "the same in all runs")
        else:
            _lines(axes, own, styles)
            if not all(own):
                _remark(axes, "not logged where there is no line")
        axes.set_ylabel(title)
        axes.locator_params(axis="y", nbins=4)
        axes.margins(y=0.12)
    part.align_ylabels(rows)


def _lines(axes: Axes, curves: Sequence[Curve], styles: Sequence[Style]) -> None:
    for number, (curve, style) in enumerate(zip(curves, styles, strict=True)):
        if not curve:
            continue
        xs, ys = zip(*curve, strict=True)
        few = len(xs) < _FEW_POINTS
        # Where curves lie on each other the lower ones are wider, so that each of them shows.
        above = sum(list(other) == list(curve) for other in curves[number + 1 :])
        axes.plot(
            xs,
            ys,
            **style | {"marker": style["marker"] or ("." if few else None)},
            linewidth=1.5 + min(1.3 * above, 4.0),
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
    """Write a note above the axes, and move the title above it."""
    above = axes.text(1, 1.01, text, transform=axes.transAxes, fontsize=_REMARK)
    above.set(ha="right", va="bottom")
    if axes.get_title():
        axes.set_title(axes.get_title(), pad=6 + 1.5 * _REMARK)


def _legend(part: Any, styles: Sequence[Style], labels: Sequence[str], columns: int) -> None:
    handles = [Line2D([], [], markersize=4, lw=2, **style) for style in styles]
    # A label that begins with an underscore would be left out: it is given as a text afterwards.
    numbers = [f"run {number}" for number in range(len(handles))]
    legend = part.legend(handles, numbers, loc="center", ncols=columns, handlelength=3.5)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)  # a name is text, never a formula
        text.set_text(label)


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels)) + 8
    return max(1, min(len(labels), 6, _CHARACTERS // longest))
