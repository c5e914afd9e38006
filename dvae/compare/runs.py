"""What a run left behind: its settings and its curves, read from ``config.yaml`` and the CSV."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dvae.compare.settings import flatten

__all__ = ["Run", "find_runs", "natural", "read_run"]

_METRICS = "metrics.csv"
_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: Where it is, as it was named.
        settings: Value by dotted key, as the command line takes it.
        curves: Steps and values by metric, in the order in which they were logged.
    """

    folder: Path
    settings: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Find the folders of runs; one that holds runs stands for all of them.

    Args:
        paths: Folders of runs, or folders that hold them at most two levels below.

    Returns:
        The folders of the runs, each once and in natural order whatever the order of `paths`,
        and the ``version_N`` folders among them that have no ``metrics.csv``.

    Raises:
        ValueError: A path that is no folder, or one that neither is a run nor holds one.
    """
    found: dict[Path, Path] = {}
    without: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise ValueError(f"{path} {what}: name the folder of a run, runs/.../version_N")
        inside = [path / _METRICS]
        if not inside[0].exists():
            inside = [*path.glob(f"*/{_METRICS}"), *path.glob(f"*/*/{_METRICS}")]
            empty = [p for p in (*path.glob("version_*"), *path.glob("*/version_*")) if p.is_dir()]
            without |= {p.resolve(): p for p in empty if not (p / _METRICS).exists()}
        if not inside:
            raise ValueError(
                f"{path} has no {_METRICS}, nor has a folder in it: name the folder of a run, "
                "runs/.../version_N, or one that holds several"
            )
        for file in inside:
            # The same folder under two names is shown under the shorter, whichever came first.
            known = found.setdefault(file.parent.resolve(), file.parent)
            found[file.parent.resolve()] = min(known, file.parent, key=lambda p: (len(str(p)), p))
    return sorted(found.values(), key=natural), sorted(without.values(), key=natural)


def natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts version_2 before version_10.

    Args:
        path: Of a run.
    """
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)]


def read_run(folder: Path) -> Run:
    """Read a run.

    Args:
        folder: With ``metrics.csv`` and ``config.yaml``.

    Raises:
        ValueError: Either is missing, empty, cut short or malformed.
    """
    return Run(folder, _settings(folder / _CONFIG), _curves(folder / _METRICS))


def _settings(path: Path) -> dict[str, Any]:
    text = _text(path, "train.py fit leaves it beside metrics.csv")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}"
        what = getattr(error, "problem", None) or "it cannot be read"
        raise ValueError(f"{path} is no plain YAML{where}: {what}; restore the run's own") from None
    except (ValueError, RecursionError) as error:
        # A date such as 2026-13-45, say, or lists in lists without an end.
        raise ValueError(f"{path} is no plain YAML: {error}; restore the run's own") from None
    if not isinstance(config, dict) or not config:
        got = "nothing" if config is None else f"a {type(config).__name__}"
        raise ValueError(f"{path} must hold keys with values; got {got}; restore the run's own")
    try:
        return flatten(config)
    except RecursionError:
        raise ValueError(f"{path} contains itself; restore the run's own") from None


def _curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    text = _text(path, "train.py fit writes it")
    again = "remove the run from the comparison, or train it again"
    if not text.strip():
        raise ValueError(f"{path} is empty: nothing was logged; {again}")
    lines = text.splitlines()
    if not text.endswith("\n"):
        raise ValueError(f"{path} is cut short in line {len(lines)}; {again}")
    try:
        names, *rows = csv.reader(lines, strict=True)
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV: {error}; {again}") from None
    if "step" not in names or len(set(names)) < len(names):
        raise ValueError(f"{path} must open with the names of its columns, step once; {again}")
    if not rows:
        raise ValueError(f"{path} has names of columns and no values; {again}")
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(
                f"{path} has {len(row)} values in line {number} and {len(names)} columns; {again}"
            )
        cells = dict(zip(names, row, strict=True))
        try:
            step = int(cells.pop("step"))
            cells.pop("epoch", None)
            for name, cell in cells.items():
                if cell:
                    curves.setdefault(name, []).append((step, float(cell)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}; {again}") from None
    return curves


def _text(path: Path, origin: str) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}: {origin}; restore it") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8: {origin}; restore it") from None
