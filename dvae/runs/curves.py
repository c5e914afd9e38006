"""What a run has logged, read from its ``metrics.csv``."""

import csv
from pathlib import Path

from dvae.runs.files import read_text

__all__ = ["read_curves", "read_rows"]


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read what a run has logged, by metric.

    Args:
        path: File that the run has left.

    Returns:
        Steps and values of each metric, in the order in which they were logged.

    Raises:
        ValueError: As in `read_rows`.
    """
    curves: dict[str, list[tuple[int, float]]] = {}
    for step, row in read_rows(path):
        for name, value in row.items():
            curves.setdefault(name, []).append((step, value))
    return curves


def read_rows(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Read what a run has logged, by moment.

    Args:
        path: File that the run has left.

    Returns:
        Step, and the values that were logged together, by metric.

    Raises:
        ValueError: The file is missing, empty, cut short or malformed; the message is one line.
    """
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty: nothing was logged")
    lines = text.splitlines()
    if not text.endswith("\n"):
        raise ValueError(f"{path} is cut short in line {len(lines)}")
    try:
        names, *rows = csv.reader(lines, strict=True)
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV: {error}") from None
    if "step" not in names or len(set(names)) < len(names):
        raise ValueError(f"{path} must open with the names of its columns, step once")
    if not rows:
        raise ValueError(f"{path} has names of columns and no values")
    found = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(
                f"{path} has {len(row)} values in line {number} and {len(names)} columns"
            )
        cells = dict(zip(names, row, strict=True))
        try:
            step = int(cells.pop("step"))
            cells.pop("epoch", None)
            found.append((step, {name: float(cell) for name, cell in cells.items() if cell}))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return found
