"""What a run left behind: its settings and its curves, read from ``config.yaml`` and the CSV."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvae.compare.settings import flatten, show
from dvae.runs.config import read_config
from dvae.runs.curves import read_curves
from dvae.runs.former import modern_data, modern_settings
from dvae.runs.layout import METRICS, RunFolder

__all__ = ["LIKELIHOODS", "Run", "find_runs", "natural", "read_run"]

LIKELIHOODS = {"CategoricalVAE": "Bernoulli", "CodebookVAE": "OptimalGaussian"}
"""Likelihood of a model whose settings name none."""


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: Path of its folder, as it was named.
        settings: Value by dotted key, as the command line takes it.
        curves: Steps and values by metric, in the order in which they were logged.
    """

    folder: Path
    settings: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def protocol(self) -> str:
        """What its likelihoods are those of: only with the same can they be compared."""
        get = self.settings.get
        likelihood = get("model.likelihood") or LIKELIHOODS.get(show(get("model")), "its own")
        # What is trained on tokens is validated and tested on the images that they are of.
        data = "data.images" if show(get("data")) == "TokenData" else "data"
        binarization = get(f"{data}.binarization") or "none"
        return f"{show(likelihood)}, {show(get(data))}, binarization {binarization}"

    def picture(self, name: str) -> Path | None:
        """Find the last picture of a name that the run has drawn; None where there is none.

        Args:
            name: Name of the picture, such as ``samples``.
        """
        return max((RunFolder(self.folder).media / name).glob("step_*.png"), default=None)


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Find the folders of runs; one that holds runs stands for all of them.

    Args:
        paths: Folders of runs, or folders that hold them at most two levels below.

    Returns:
        The folders of the runs, each once and in natural order whatever the order of `paths`,
        and the ``version_N`` folders among them that have no ``metrics.csv``.

    Raises:
        ValueError: A path that is not a folder, or a folder that neither is a run nor holds one.
    """
    found: dict[Path, Path] = {}
    without: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise ValueError(f"{path} {what}: name the folder of a run, runs/.../version_N")
        inside = [path / METRICS]
        if not inside[0].exists():
            inside = [*path.glob(f"*/{METRICS}"), *path.glob(f"*/*/{METRICS}")]
            empty = [p for p in (*path.glob("version_*"), *path.glob("*/version_*")) if p.is_dir()]
            without |= {p.resolve(): p for p in empty if not (p / METRICS).exists()}
        if not inside:
            raise ValueError(
                f"{path} has no {METRICS}, nor has a folder in it: name the folder of a run, "
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
        path: Path of a run.
    """
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)]


def read_run(folder: Path) -> Run:
    """Read a run.

    Args:
        folder: Folder with ``metrics.csv`` and ``config.yaml``.

    Raises:
        ValueError: Either is missing, empty, cut short or malformed.
    """
    run = RunFolder(folder)
    try:
        config = read_config(run.config)
        if isinstance(config.get("model"), dict):
            modern_settings(config["model"].get("init_args"))
        modern_data(config.get("data"))
        return Run(folder, flatten(config), read_curves(run.metrics))
    except RecursionError:
        raise ValueError(f"{run.config} contains itself; restore the run's own") from None
    except ValueError as error:
        raise ValueError(f"{error}; restore the file, or leave the run out") from None
