"""The figures a run ended with, and which way each of them is better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["Better", "Result", "results"]


class Better(Enum):
    """Which way a figure is better; its value is the mark beside the figure's name."""

    HIGHER = "↑"
    LOWER = "↓"
    NEAR_ZERO = "→0"
    NEITHER = ""


# By the last part of the name. A KL is neither: it is the price of a better reconstruction. The
# relaxed ELBO is neither: it is not a bound.
_BETTER = {
    **dict.fromkeys(("elbo", "iwae", "log_px", "perplexity", "usage", "psnr", "ssim"), "HIGHER"),
    **dict.fromkeys(("bits_per_dim", "dead_codes", "reconstruction", "mse", "fid"), "LOWER"),
    **dict.fromkeys(("elbo_given_label",), "HIGHER"),
    "relaxation_gap": "NEAR_ZERO",
}

# What comes first; the rest follows by name.
_FIRST = ("test/elbo", "test/iwae", "test/log_px", "val/elbo")


@dataclass(frozen=True)
class Result:
    """A figure of all runs.

    Attributes:
        name: Name of the metric.
        note: Which of its values it is: ``best`` or ``last``; empty for the test's only one.
        better: Which way it is better.
        values: One for each run; ``None`` where it was not measured.
        best: Whether a run's is the best; nobody's where there is nothing to compare.
    """

    name: str
    note: str
    better: Better
    values: tuple[float | None, ...]
    best: tuple[bool, ...]


# What is comparable only where likelihood and data are the same.
_LIKELIHOODS = {"elbo", "iwae", "log_px", "elbo_given_label", "bits_per_dim", "reconstruction"}


def results(
    runs: Sequence[Mapping[str, Sequence[tuple[int, float]]]], comparable: bool = True
) -> list[Result]:
    """Collect what the runs ended with.

    Args:
        runs: Steps and values by metric, for each run.
        comparable: Whether log-likelihoods are; if not, none is the best.

    Returns:
        The best ``val/elbo`` and the last value of every other metric of ``test`` and ``val``.
    """
    names = {name for curves in runs for name in curves if name.startswith(("test/", "val/"))}
    listed = []
    for name in sorted(names, key=_order):
        kind = name.rsplit("/", 1)[-1]
        better = Better[_BETTER.get(kind, "NEITHER")]
        if not comparable and kind in _LIKELIHOODS:
            better = Better.NEITHER
        if name == "val/elbo":
            values = [_highest([v for _, v in curves.get(name, ())]) for curves in runs]
            listed.append(_result(name, "best", better, values))
        note = "" if name.startswith("test/") else "last"
        last = [curves[name][-1][1] if name in curves else None for curves in runs]
        listed.append(_result(name, note, better, last))
    return listed


def _result(name: str, note: str, better: Better, values: Sequence[float | None]) -> Result:
    score = {
        Better.HIGHER: lambda value: value,
        Better.LOWER: lambda value: -value,
        Better.NEAR_ZERO: lambda value: -abs(value),
        Better.NEITHER: lambda value: 0.0,
    }[better]
    scores = [None if v is None or math.isnan(v) else score(v) for v in values]
    known = {s for s in scores if s is not None}
    # Where all are alike no one is the best.
    told_apart = len(known) > 1
    best = tuple(told_apart and s is not None and s == max(known) for s in scores)
    return Result(name, note, better, tuple(values), best)


def _highest(values: Sequence[float]) -> float | None:
    finite = [value for value in values if not math.isnan(value)]
    return max(finite) if finite else (values[-1] if values else None)


def _order(name: str) -> tuple[int, bool, str]:
    first = _FIRST.index(name) if name in _FIRST else len(_FIRST)
    return (first, not name.startswith("test/"), name)
