"""Four plots of a report: bias against variance, and bias, variance and cosine over tau."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from dvae.lab.run import Report, Row
from dvae.plotting import Style, in_style, new_figure, place_labels, point_styles, side_labels

__all__ = ["figures"]

_BIAS = "relative bias  ||Eg - ∇|| / ||∇||"
_VARIANCE = "relative variance  E||g - Eg||² / ||∇||²"

# A cosine this close to 1 is drawn there.
_CLOSEST = 1e-4


@in_style
def figures(report: Report) -> dict[str, Figure]:
    """Draw all plots.

    Args:
        report: What was measured.

    Returns:
        The figures by name; save them with ``figure.savefig(path)``.
    """
    return {
        "bias_variance": _bias_variance(report),
        "bias": _bias(report),
        "variance": _variance(report),
        "cosine": _cosine(report),
    }


def _bias_variance(report: Report) -> Figure:
    styles = _styles(report)
    figure = new_figure(11.0, 7.0, f"Bias against variance: {report.title}", None)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 4.5])
    figure.subplots_adjust(left=0.07, right=0.8, bottom=0.13, top=0.9, wspace=0.8)
    seen = [row for row in report.rows if not row.stats.noiseless]
    biased = [row for row in seen if not row.stats.unbiased]
    names = {row.name for row in biased}
    for name, rows in _by_name(biased).items():
        xs = [row.stats.relative_bias for row in rows]
        ys = [_variance_of(row) for row in rows]
        # Hollow and larger where there is no temperature: it may lie on a point of a curve.
        hollow = {"markersize": 9, "markerfacecolor": "none"} if rows[0].tau is None else {}
        right.plot(xs, ys, label=name, **{"lw": 1, "markersize": 5} | styles[name] | hollow)
    calm = _by_name(row for row in seen if row.name not in names)
    for name, rows in calm.items():
        ys = [_variance_of(row) for row in rows]
        left.plot([0.5] * len(ys), ys, ls="", markersize=5, **styles[name])
    left.set(xlim=(0, 0.6), xticks=[], title="no bias found")
    _logarithmic(left, "y")
    left.set_ylabel(_VARIANCE)
    right.set(title="biased; the numbers are the temperature")
    if biased:
        right.set_xlabel(_BIAS)
        _logarithmic(right, "x")
        right.tick_params(labelleft=True)
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    outside = _cut(left, seen)
    calm = _by_name(row for row in seen if row.name not in names and row not in outside)
    lowest = {name: min(rows, key=_variance_of) for name, rows in calm.items()}
    side_labels(
        left,
        [(_variance_of(r), _with_tau(r), styles[name]["color"]) for name, r in lowest.items()],
        size=7.5,
    )
    place_labels(right, _tau_labels([row for row in biased if row not in outside], styles))
    _note_variance(figure, report, outside)
    return figure


def _bias(report: Report) -> Figure:
    styles = _styles(report)
    figure, axes = _over_tau(report, "Bias", _BIAS)
    shown = [row for row in report.rows if not row.stats.unbiased]
    names = {row.name for row in shown}
    labels = _curves(axes, shown, styles, lambda row: row.stats.relative_bias)
    for row in report.rows:
        if row.name in names and row.tau is not None and row.stats.unbiased:
            limit = styles[row.name] | {"marker": "v", "markerfacecolor": "none"}
            axes.plot(row.tau, row.stats.relative_bias_limit, **limit)
    _logarithmic(axes, "y")
    side_labels(axes, labels)
    calm = (r.name for r in report.rows if r.name not in names)
    _note(figure, report, ("No bias found: ", calm))
    return figure


def _variance(report: Report) -> Figure:
    styles = _styles(report)
    figure, axes = _over_tau(report, "Variance", _VARIANCE)
    shown = [row for row in report.rows if not row.stats.noiseless]
    labels = _curves(axes, shown, styles, _variance_of)
    _logarithmic(axes, "y")
    outside = _cut(axes, shown)
    low, high = axes.get_ylim()
    inside = {row.name for row in shown if row not in outside}
    side_labels(axes, [(min(max(y, low), high), n, c) for y, n, c in labels if n in inside])
    _note_variance(figure, report, outside)
    return figure


def _cosine(report: Report) -> Figure:
    styles = _styles(report)
    figure = new_figure(13.0, 6.2, f"Cosine with the reference gradient: {report.title}", None)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.85, bottom=0.14, top=0.89, wspace=0.55)
    for axes in (left, right):
        _tau_axis(axes, report)
        axes.set_ylabel("cosine")
    biased = {row.name for row in report.rows if not row.stats.unbiased}
    left.set_title("of the expected gradient")
    labels = _curves(
        left,
        [row for row in report.rows if row.name in biased],
        styles,
        lambda row: max(1 - row.stats.cosine, _CLOSEST),
    )
    # Most are between 0.9 and 1: the distance from 1 is what is told apart.
    left.set_yscale("log")
    left.yaxis.set_major_locator(FixedLocator([10.0**-k for k in range(5)] + [0.5, 0.2, 2.0]))
    left.yaxis.set_major_formatter(lambda distance, _: f"{1 - distance:g}")
    left.yaxis.set_minor_locator(NullLocator())
    left.invert_yaxis()
    side_labels(left, labels, size=7.5)
    right.set_title("of one draw, on average")
    labels = _curves(right, report.rows, styles, lambda row: row.stats.cosine_single)
    side_labels(right, labels, size=7.5)
    calm = (r.name for r in report.rows if r.name not in biased)
    _note(figure, report, ("No bias found: ", calm))
    return figure


def _over_tau(report: Report, title: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = new_figure(9.5, 6.0, f"{title} over the temperature: {report.title}", None)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.085, right=0.76, bottom=0.16, top=0.92)
    axes.set_ylabel(ylabel)
    _tau_axis(axes, report)
    return figure, axes


def _tau_axis(axes: Axes, report: Report) -> None:
    taus = sorted({row.tau for row in report.rows if row.tau is not None}) or [1.0]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(taus))
    axes.xaxis.set_major_formatter(lambda tau, _: f"{tau:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(taus[0] / 1.1, taus[-1] * 1.1)
    axes.set_xlabel("temperature tau (dashed: has none)")


def _curves(
    axes: Axes, rows: Sequence[Row], styles: Mapping[str, Style], value: Callable[[Row], float]
) -> list[tuple[float, str, str]]:
    """Draw a curve or a dashed line for each name; return the labels for their right ends."""
    labels = []
    for name, own in _by_name(row for row in rows if math.isfinite(value(row))).items():
        colour = styles[name]["color"]
        if own[0].tau is None:
            axes.axhline(value(own[0]), color=colour, linestyle="--", linewidth=0.9)
        else:
            xs, ys = [row.tau or 0.0 for row in own], [value(row) for row in own]
            axes.plot(xs, ys, markersize=4, linewidth=1.2, **styles[name])
        labels.append((value(own[-1]), name, colour))
    return labels


def _tau_labels(
    rows: Sequence[Row], styles: Mapping[str, Style]
) -> list[tuple[float, float, str, str]]:
    """Return a label for each point, the ends of the curves first: there is not room for all."""
    labels: list[tuple[int, tuple[float, float, str, str]]] = []
    for name, own in _by_name(rows).items():
        for number, row in enumerate(own):
            word = "" if row.tau is None else f"{row.tau:g}"
            label = (row.stats.relative_bias, _variance_of(row), word, styles[name]["color"])
            labels.append((min(number, len(own) - 1 - number), label))
    return [label for _, label in sorted(labels, key=lambda pair: pair[0])]


def _cut(axes: Axes, rows: Sequence[Row]) -> list[Row]:
    """Keep the logarithmic axis to where most are; return what is outside.

    A softmax that is all but one-hot has next to no variance, REINFORCE without a baseline can
    have a million times that of the rest: either would press the others together.
    """
    values = sorted(map(_variance_of, rows))
    if not values:
        return []
    middle = values[len(values) // 2]
    low, high = middle / 100, middle * 200
    if values[0] < low:
        axes.set_ylim(bottom=low)
    if values[-1] > high:
        axes.set_ylim(top=high)
    return [row for row in rows if not low <= _variance_of(row) <= high]


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Label 1, 2 and 5 of each decade in plain figures: a plot spans two or three."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=99))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _styles(report: Report) -> dict[str, Style]:
    """Give the colours that are not used twice to the biased curves."""
    biased = {row.name for row in report.rows if not row.stats.unbiased}
    return point_styles(
        row.name
        for row in sorted(report.rows, key=lambda row: (row.tau is None, row.name not in biased))
    )


def _by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.name, []).append(row)
    return grouped


def _variance_of(row: Row) -> float:
    return row.stats.relative_variance


def _with_tau(row: Row) -> str:
    return row.name if row.tau is None else f"{row.name}, {row.tau:g}"


def _note_variance(figure: Figure, report: Report, outside: Iterable[Row]) -> None:
    still = (row.name for row in report.rows if row.stats.noiseless)
    far = (f"{_with_tau(row)} ({_variance_of(row):.2g})" for row in outside)
    _note(figure, report, ("Variance 0: ", still), ("Outside the plot: ", far))


def _note(figure: Figure, report: Report, *parts: tuple[str, Iterable[str]]) -> None:
    parts = (*parts, ("Reference gradient: ", [report.reference]))
    listed = [(start, ", ".join(dict.fromkeys(names))) for start, names in parts]
    text = "\n".join(textwrap.fill(start + names, 150) for start, names in listed if names)
    figure.text(0.01, 0.012, text, fontsize=8, va="bottom", color="#444444")
