"""A comparison: the runs with their names, where they differ, what they reached."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

from dvae.compare.results import Result, results
from dvae.compare.runs import Run
from dvae.compare.settings import differing_settings, labels

__all__ = ["MISSING", "Comparison", "compare", "figure_text", "terminal_table"]

MISSING = "—"

# There is room for these in a terminal; the page has all.
_SHORT = (
    ("test/elbo", ""),
    ("test/iwae", ""),
    ("val/elbo", "best"),
    ("val/prior_bits_per_token", "last"),
    ("val/uniform_bits_per_token", "last"),
    ("val/relaxation_gap", "last"),
    ("val/perplexity", "last"),
    ("val/usage", "last"),
)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: Runs in natural order of their folders.
        labels: A short name for each, no two alike.
        differing: The value of each run, as text, by dotted key; only where they differ.
        results: What they ended with.
    """

    runs: tuple[Run, ...]
    labels: tuple[str, ...]
    differing: dict[str, list[str]]
    results: tuple[Result, ...]

    @property
    def warning(self) -> str:
        """What is to be said of log-likelihoods that are not comparable; else nothing."""
        kinds = list(dict.fromkeys(run.protocol for run in self.runs))
        if len(kinds) < 2:
            return ""
        return (
            "Log-likelihoods (ELBO, IWAE, reconstruction, bits per dimension) of different kinds "
            f"cannot be compared, and none is marked as the best: {'; '.join(kinds)}."
        )


def compare(runs: Sequence[Run]) -> Comparison:
    """Put runs side by side.

    Args:
        runs: Runs, at least one.
    """
    differing = differing_settings([run.settings for run in runs])
    names = labels([run.folder for run in runs], differing)
    comparison = Comparison(tuple(runs), tuple(names), differing, ())
    reached = results([run.curves for run in runs], comparable=not comparison.warning)
    return replace(comparison, results=tuple(reached))


def terminal_table(comparison: Comparison) -> Table:
    """Make the short table for the terminal: a row for each run, the best in bold.

    Args:
        comparison: Comparison of the runs.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    by_name = {(result.name, result.note): result for result in comparison.results}
    shown = [by_name[key] for key in _SHORT if key in by_name]
    for result in shown:
        name = " ".join(part for part in (result.name, result.note, result.better.value) if part)
        table.add_column(name, justify="right")
    for number, label in enumerate(comparison.labels):
        cells = [
            Text(figure_text(result.values[number]), "bold" if result.best[number] else "")
            for result in shown
        ]
        # As Text: brackets in a name are not markup.
        table.add_row(Text(label), *cells)
    return table


def figure_text(value: float | None) -> str:
    """Write a figure: two decimals where it is 10 or above, else four significant digits.

    Args:
        value: Or ``None`` where it was not measured.
    """
    if value is None:
        return MISSING
    return f"{value:.2f}" if 10 <= abs(value) < 1e6 else f"{value:.4g}"
