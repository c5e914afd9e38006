"""Runs side by side: where their settings differ, what they reached, and their curves."""

from dvae.compare.results import Result, results
from dvae.compare.runs import Run, find_runs, read_run
from dvae.compare.settings import differing_settings, flatten
from dvae.compare.table import Comparison, compare

__all__ = [
    "Comparison",
    "Result",
    "Run",
    "compare",
    "differing_settings",
    "find_runs",
    "flatten",
    "read_run",
    "results",
]
