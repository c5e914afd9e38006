"""Measure every estimator on one problem."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator

from dvae.doing import doing
from dvae.estimators import ExactEnumeration
from dvae.lab.catalogue import Entry, catalogue
from dvae.lab.measurement import adapt, measure
from dvae.lab.problem import Problem
from dvae.lab.reference import REFERENCE_DRAWS, reference_gradient
from dvae.lab.statistics import GradientStats
from dvae.lab.timing import StepTime, step_time

__all__ = ["TAUS", "Report", "Row", "run"]

TAUS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)

# Batches that baselines and control variates learn from before they are measured.
_ADAPT_STEPS = 200

# Codes at a time of an estimator that visits them all: past it a step takes seconds.
_MOST_CODES = 2**16

_TIMING_BATCH = 200


@dataclass(frozen=True)
class Row:
    """An estimator at a temperature.

    Attributes:
        name: Name of the estimator.
        tau: The temperature, or ``None`` where there is none to choose.
        stats: Its gradient against the reference.
        time: Time of a step; the same at every temperature.
    """

    name: str
    tau: float | None
    stats: GradientStats
    time: StepTime


@dataclass(frozen=True)
class Report:
    """All estimators on one problem.

    Attributes:
        title: The problem, for people.
        rows: What was measured.
        skipped: Why an estimator was not measured, by name.
        batch: Examples in a step that was timed.
        reference: What stands for the true gradient, in words.
    """

    title: str
    rows: tuple[Row, ...]
    skipped: Mapping[str, str]
    batch: int
    reference: str

    def best(self) -> tuple[Row, ...]:
        """Return each estimator where a single draw points best, the best of them first.

        By the cosine, not by the squared error: that one rewards a gradient that is too short,
        and an adaptive optimizer does not care how long it is.
        """
        names = dict.fromkeys(row.name for row in self.rows)
        rows = [max((row for row in self.rows if row.name == name), key=_cosine) for name in names]
        return tuple(sorted(rows, key=_cosine, reverse=True))


def run(
    problem: Problem,
    taus: Sequence[float] = TAUS,
    draws: int = 100_000,
    seed: int = 0,
    track: Callable[[Sequence[Entry]], Iterable[Entry]] = iter,
    reference_draws: int = REFERENCE_DRAWS,
) -> Report:
    """Measure every estimator at every temperature that it takes.

    All start from the same random state, so that curves over the temperature are smooth.
    Baselines and control variates learn for a while before they are held and measured.

    Args:
        problem: What to measure at.
        taus: Temperatures, each above 0.
        draws: Gradients of the batch to draw from each estimator, at least 2.
        seed: Seed of the noise.
        track: Goes through the estimators, for a progress bar.
        reference_draws: Draws of the reference where there are too many codes to visit, at least
            64; see `reference_gradient`.

    Raises:
        ValueError: A value outside its range.
    """
    latents, codes = problem.logits.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # RELAX starts from a random network
        found = catalogue(latents, codes, taus)
    batch = max(1, _TIMING_BATCH // len(problem.logits)) * len(problem.logits)
    entries, skipped = list(found.entries), dict(found.skipped)
    if codes**latents * batch > _MOST_CODES:
        entries = [e for e in entries if not isinstance(e.estimator, ExactEnumeration)]
        skipped["ExactEnumeration"] = (
            f"{codes}^{latents} codes for each of {batch} examples take seconds a step"
        )
    # Of noise that no estimator is drawn with.
    with doing("drawing the reference gradient"):
        reference = reference_gradient(problem.f, problem.logits, reference_draws, _noise(seed + 2))
    times: dict[str, StepTime] = {}
    rows = []
    for entry in track(entries):
        # Without noise one draw is like another, and each visits every code.
        count = 2 if isinstance(entry.estimator, ExactEnumeration) else draws
        with doing(f"measuring {entry.name}" + (f" at tau {entry.tau:g}" if entry.tau else "")):
            at = entry.estimator, problem.f, problem.logits
            adapt(*at, _ADAPT_STEPS, _noise(seed + 1))
            stats = measure(*at, count, _noise(seed), reference)
            if entry.name not in times:
                times[entry.name] = step_time(entry.estimator, problem, batch)
        rows.append(Row(entry.name, entry.tau, stats, times[entry.name]))
    return Report(problem.title, tuple(rows), skipped, batch, str(reference))


def _noise(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _cosine(row: Row) -> float:
    return row.stats.cosine_single
