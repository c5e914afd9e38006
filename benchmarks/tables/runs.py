"""One run: a cell with a seed, its settings in words, its folder, and what it is made of.

Runs that are trained by one process are a group.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables.radam import RAdam
from benchmarks.tables.spec import Cell, Table, estimator, mover, schedule
from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import Anneal
from dvae.data import MNIST
from dvae.estimators import PathwiseEstimator
from dvae.models import ELBO, CategoricalVAE, Evaluation
from dvae.networks import MLP
from dvae.schedules import Tuned

__all__ = ["Group", "Run", "anneals", "data", "grouped", "is_trial", "model", "shortened"]

# The same steps in one pass over the weights: with one thread RAdam's several were 40% of a run's
# time. No settings: the result depends on them by rounding only.
_QUICK: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": partial(torch.optim.Adam, fused=True),
    "AdamW": partial(torch.optim.AdamW, fused=True),
    "RAdam": RAdam,
}


@dataclass(frozen=True)
class Run:
    """A cell of a table, trained with a seed.

    Attributes:
        table: The table, with the epochs and draws of this run.
        cell: One of its cells that has an estimator.
        seed: Seed of weights, noise and data order.
    """

    table: Table
    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """Cell and seed, for people."""
        return f"{self.cell.name} seed {self.seed}"

    @property
    def settings(self) -> str:
        """All that the result depends on but seed and code, the same text for the same run."""
        t, c = self.table, self.cell
        assert c.estimator is not None
        parts = [
            f"K={c.codes} L={c.latents}",
            _call(c.estimator),
            _call(c.optimizer),
            *(f"lr {_call(part)}" for part in t.lr_schedule),
            *(f"{key} {_call(part)}" for key, part in sorted(c.anneal.items())),
            _call({"class": "MLP", **t.network}),
            _call({"class": "MNIST", **t.data}),
            f"{t.epochs} epochs",
            *([f"{t.draws} draws"] if t.draws > 1 else []),
            *(["starts at the mean image"] if t.start_at_mean else []),
            f"{t.iwae_samples} samples",
        ]
        return "; ".join(parts)

    def folder(self, root: Path) -> Path:
        """Return the folder of the run: other settings are in another one.

        Args:
            root: Folder of all runs of tables.
        """
        digest = hashlib.sha256(self.settings.encode()).hexdigest()[:8]
        slug = "-".join("".join(c if c.isalnum() else " " for c in self.cell.name).split())
        return root / self.table.name / f"{slug}-{digest}" / f"seed{self.seed}"

    @property
    def work(self) -> int:
        """Codes to decode: an image of training counts three times, for its backward pass."""
        images = 60_000 - int(self.table.data.get("val_size", 0))
        return 3 * self.table.epochs * self.table.draws * images + 10_000 * self.table.iwae_samples


@dataclass(frozen=True)
class Group:
    """Runs of one process: one, or several as one batched model.

    Attributes:
        runs: At least one; several are of one row and one kind of optimizer.
    """

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Cells and seeds, for people."""
        return ", ".join(run.name for run in self.runs)

    @property
    def work(self) -> int:
        """Codes to decode; see `Run.work`."""
        return sum(run.work for run in self.runs)

    def folder(self, root: Path) -> Path:
        """Return the folder of the training: a run's own, or one for these runs together.

        Args:
            root: Folder of all runs of tables.
        """
        folders = [run.folder(root) for run in self.runs]
        if len(folders) == 1:
            return folders[0]
        text = "\n".join(f"{folder.parent.name} {folder.name}" for folder in folders)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return root / self.runs[0].table.name / f"together-{digest}"


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Put together what can be one batched model.

    Args:
        runs: Runs of one table, without two that are the same.

    Returns:
        Groups in the order of their first runs. Alone stays what has no other of its row and kind
        of optimizer, an estimator that is no layer, a network that keeps averages of a batch, a
        tuner, which measures one model, or a decoder that starts at the mean of its own batch.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        cell = run.cell
        assert cell.estimator is not None
        key: Any = (cell.row, cell.optimizer["class"])
        layer = isinstance(estimator(cell.estimator), PathwiseEstimator)
        network = MLP(**run.table.network)
        tuned = any(isinstance(mover(recipe), Tuned) for recipe in cell.anneal.values())
        averages = network.norm != "none" or network.center
        if not layer or averages or tuned or run.table.start_at_mean:
            key = run.name
        groups.setdefault(key, []).append(run)
    return [Group(tuple(members)) for members in groups.values()]


def shortened(table: Table, epochs: int | None, samples: int | None) -> Table:
    """Return the table for a trial.

    Args:
        table: The table.
        epochs: Instead of the table's, if given, at least 1.
        samples: Draws of the bound instead of the table's, if given, at least 1.

    Raises:
        ValueError: A number below 1.
    """
    for name, value in (("--epochs", epochs), ("--iwae_samples", samples)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    return replace(table, epochs=epochs or table.epochs, iwae_samples=samples or table.iwae_samples)


def is_trial(run: Table, table: Table) -> bool:
    """Tell whether runs of a table are not those of the protocol.

    Args:
        run: As it is run.
        table: As it was loaded.
    """
    return (run.epochs, run.iwae_samples) != (table.epochs, table.iwae_samples)


def model(run: Run) -> CategoricalVAE:
    """Build the model of a run, from the global generator.

    Args:
        run: The run.
    """
    table, cell = run.table, run.cell
    assert cell.estimator is not None

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        arguments = {key: value for key, value in cell.optimizer.items() if key != "class"}
        kind = cell.optimizer["class"]
        make = _QUICK.get(kind, getattr(torch.optim, kind))
        return make(parameters, **arguments)

    return CategoricalVAE(
        network=MLP(**table.network),
        bottleneck=CategoricalBottleneck(cell.latents, cell.codes, estimator(cell.estimator)),
        objective=ELBO(samples=table.draws),
        optimizer=optimizer,
        lr_schedule=schedule(*table.lr_schedule) if table.lr_schedule else None,
        # The exact likelihood is no figure of these tables.
        evaluation=Evaluation(iwae_samples=table.iwae_samples, max_states=0),
    )


def data(run: Run) -> MNIST:
    """Build the data of a run.

    Args:
        run: The run.
    """
    return MNIST(**run.table.data, seed=run.seed)


def anneals(run: Run) -> list[Anneal]:
    """Build the callbacks that move the temperature and other scalars.

    Args:
        run: The run.
    """
    return [Anneal(name, mover(recipe)) for name, recipe in run.cell.anneal.items()]


def _call(recipe: Mapping[str, Any]) -> str:
    arguments = (f"{key}={_plain(value)}" for key, value in recipe.items() if key != "class")
    return f"{recipe['class']}({', '.join(sorted(arguments))})"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
