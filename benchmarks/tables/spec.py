"""What a published table is: its YAML file, read and checked."""

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from dvae.data import MNIST
from dvae.estimators import ESTIMATORS, Estimator
from dvae.networks import MLP
from dvae.schedules import SCHEDULES, Mover, Schedule, Sequential, Tuned

T = TypeVar("T")

__all__ = ["FOLDER", "METRICS", "Cell", "Table", "estimator", "load", "mover", "schedule", "tables"]

FOLDER = Path(__file__).parent
METRICS = ("train_negative_elbo", "test_negative_elbo", "test_negative_iwae")
READ = ("re-read", "recalled", "computed")
OPTIMIZERS = ("Adam", "AdamW", "RAdam", "SGD")

_VALUE = re.compile(r"^(?P<name>\S.*?) (?P<value>\d+\.\d+)(?: ?± ?(?P<spread>\d*\.\d+))?$")


@dataclass(frozen=True)
class Cell:
    """One figure of a table, and how ours is trained.

    Attributes:
        row: Name of its row.
        column: Name of its column, as the source calls the estimator.
        codes: K, categories of a latent.
        latents: L.
        estimator: ``class`` and its arguments; None where this project has no such estimator.
        optimizer: ``class`` and its arguments.
        published: The source's figure, nats per example, lower is better; None where it has none.
        spread: Its standard deviation over seeds, where the source gives one.
        anneal: Schedule of each annealed scalar, or its tuner, by its name.
    """

    row: str
    column: str
    codes: int
    latents: int
    estimator: Mapping[str, Any] | None
    optimizer: Mapping[str, Any]
    published: float | None
    spread: float | None
    anneal: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Row and column."""
        return f"{self.row} {self.column}"


@dataclass(frozen=True)
class Table:
    """A published table with its protocol; the attributes are the keys of the YAML file.

    Attributes:
        title: What the table is of.
        source: Authors, year, where it was published.
        read: How the figures came here: ``re-read`` in the source, ``recalled`` without it, or
            ``computed`` from the authors' result files.
        protocol: The source's protocol, in words.
        choices: What the source leaves open and how it is filled here, in words.
        metric: Metric of `METRICS`, what the published figures are.
        text: The figures as the source has them, one line a row; checked against the cells.
        epochs: Length of a run.
        draws: Draws of codes for each image in a step; 1 where the file does not say.
        start_at_mean: Whether decoders begin at the mean image; false where the file does not say.
        iwae_samples: Draws of the test's bound.
        network: Arguments of `dvae.networks.MLP`.
        data: Arguments of `dvae.data.MNIST`.
        optimizer: ``class`` and arguments, the same for all cells.
        lr_schedule: Schedules of the factor on the learning rate, one after the other.
        rows: ``codes`` and ``latents`` of each row.
        columns: ``estimator`` and ``anneal`` of each column.
        cells: ``published``, ``spread``, and what differs from the column: ``estimator``,
            ``optimizer``; by row and column.
        name: Name of the file.
    """

    title: str
    source: str
    read: str
    protocol: str
    choices: tuple[str, ...]
    metric: str
    text: str
    epochs: int
    iwae_samples: int
    network: Mapping[str, Any]
    data: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    lr_schedule: tuple[Mapping[str, Any], ...]
    rows: Mapping[str, Mapping[str, int]]
    columns: Mapping[str, Mapping[str, Any]]
    cells: Mapping[str, Cell]
    name: str
    draws: int = 1
    start_at_mean: bool = False


def tables() -> list[str]:
    """List the tables that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Table:
    """Read and check a table.

    Args:
        name: One of `tables`, or the path of a YAML file.

    Raises:
        ValueError: No such table, or a mistake in it, named in one line.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no table {name!r}; there are {', '.join(tables())}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return _table(content, path.stem)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def estimator(recipe: Mapping[str, Any]) -> Estimator:
    """Build an estimator.

    Args:
        recipe: ``class`` and its arguments.

    Raises:
        ValueError: There is no such class, or it refuses an argument.
    """
    return _make(recipe, ESTIMATORS, "estimator")


def schedule(*recipes: Mapping[str, Any]) -> Schedule:
    """Build a schedule.

    Args:
        recipes: ``class`` and arguments of each of its parts.

    Raises:
        ValueError: There is no such class, or it refuses an argument.
    """
    parts = [_make(r, SCHEDULES, "schedule") for r in recipes]
    return parts[0] if len(parts) == 1 else Sequential(tuple(parts))


def mover(recipe: Mapping[str, Any]) -> Mover:
    """Build what moves a scalar: a schedule, or a tuner of a temperature.

    Args:
        recipe: ``class`` and arguments.

    Raises:
        ValueError: There is no such class, or it refuses an argument.
    """
    return _make(recipe, {**SCHEDULES, "Tuned": Tuned}, "schedule")


def choose(key: object, allowed: Collection[str], what: str) -> str:
    """Insist that a name is one of those that there are.

    Args:
        key: The name.
        allowed: What there is.
        what: What it is the name of, for the message.

    Raises:
        ValueError: It is not, with the nearest one.
    """
    if key in allowed:
        return str(key)
    near = difflib.get_close_matches(str(key), allowed, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(f"there is no {what} {key!r}{hint}; there are {', '.join(sorted(allowed))}")


def _make(recipe: Mapping[str, Any], classes: Mapping[str, Callable[..., T]], what: str) -> T:
    if not isinstance(recipe, Mapping) or "class" not in recipe:
        raise ValueError(f"each {what} must have a class; got {recipe!r}")
    arguments = {key: value for key, value in recipe.items() if key != "class"}
    made = classes[choose(recipe["class"], classes, what)]
    try:
        return made(**arguments)
    except TypeError as error:
        raise ValueError(f"{recipe['class']} with {arguments}: {error}") from None


def _keys(mapping: Any, allowed: Collection[str], where: str, needed: Collection[str] = ()) -> None:
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where} must be keys and values; got {mapping!r}")
    for key in mapping:
        choose(key, allowed, f"key of {where}")
    for key in needed:
        if key not in mapping:
            raise ValueError(f"{where} lacks {key}")


def _table(content: Any, name: str) -> Table:
    keys = [field.name for field in fields(Table) if field.name != "name"]
    optional = {"choices", "lr_schedule", "draws", "start_at_mean"}
    _keys(content, keys, "the table", set(keys) - optional)
    choose(content["metric"], METRICS, "metric")
    for key, made in (("network", MLP), ("data", MNIST)):
        _keys(content[key], inspect.signature(made).parameters, key)
        made(**content[key])
    choose(content["read"], READ, "way to have read a figure")
    for key in ("epochs", "iwae_samples", "draws"):
        value = content.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} must be a whole number >= 1; got {value!r}")
    if not isinstance(content.get("start_at_mean", False), bool):
        raise ValueError(f"start_at_mean must be true or false; got {content['start_at_mean']!r}")
    for row, sizes in content["rows"].items():
        _keys(sizes, ("codes", "latents"), f"row {row}", ("codes", "latents"))
    for column, recipe in content["columns"].items():
        _keys(recipe, ("estimator", "anneal"), f"column {column}", ("estimator",))
    cells = {cell.name: cell for cell in _cells(content)}
    lr_schedule = tuple(content.get("lr_schedule", ()))
    if lr_schedule:
        schedule(*lr_schedule)
    table = Table(
        **{
            **content,
            "cells": cells,
            "choices": tuple(content.get("choices", ())),
            "lr_schedule": lr_schedule,
            "name": name,
        }
    )
    _check_text(table)
    return table


def _cells(content: Mapping[str, Any]) -> list[Cell]:
    cells = []
    for row, columns in content["cells"].items():
        sizes = content["rows"][choose(row, content["rows"], "row")]
        for column, given in columns.items():
            where = f"cell {row} {column}"
            recipe = content["columns"][choose(column, content["columns"], "column")]
            _keys(given, ("published", "spread", "estimator", "optimizer"), where)
            ours = recipe["estimator"]
            cell = Cell(
                row=row,
                column=column,
                **sizes,
                estimator=None if ours is None else {**ours, **given.get("estimator", {})},
                optimizer={**content["optimizer"], **given.get("optimizer", {})},
                published=given.get("published"),
                spread=given.get("spread"),
                anneal=recipe.get("anneal", {}),
            )
            _check(cell, where)
            cells.append(cell)
    return cells


def _check(cell: Cell, where: str) -> None:
    try:
        if cell.estimator is not None:
            estimator(cell.estimator)
        for recipe in cell.anneal.values():
            mover(recipe)
        _keys(cell.optimizer, ("class", "lr", "momentum", "weight_decay"), "the optimizer")
        choose(cell.optimizer.get("class"), OPTIMIZERS, "optimizer")
        numbers = {key: value for key, value in cell.optimizer.items() if key != "class"}
        for key, value in {"published": cell.published, "spread": cell.spread, **numbers}.items():
            # YAML reads 3e-4, without a point, as text.
            if value is not None and not isinstance(value, (int, float)):
                raise ValueError(f"{key} must be a number (3.0e-4, not 3e-4); got {value!r}")
        getattr(torch.optim, cell.optimizer["class"])([torch.zeros(1)], **numbers)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _check_text(table: Table) -> None:
    # Each figure is there twice, so that a digit mistyped in one of them does not go unseen.
    found = {}
    for line in table.text.strip().splitlines():
        row, _, rest = line.partition(": ")
        for part in rest.split(", "):
            match = _VALUE.match(part.strip())
            if match is None:
                raise ValueError(f"text: {part!r} is no name and figure")
            if f"{row} {match['name']}" in found:
                raise ValueError(f"text: {row} {match['name']} is there twice")
            spread = None if match["spread"] is None else float(match["spread"])
            found[f"{row} {match['name']}"] = (float(match["value"]), spread)
    cells = {
        name: (cell.published, cell.spread)
        for name, cell in table.cells.items()
        if cell.published is not None
    }
    for name in sorted(found.keys() | cells.keys()):
        if found.get(name) != cells.get(name):
            raise ValueError(f"{name}: the text has {found.get(name)}, the cell {cells.get(name)}")
