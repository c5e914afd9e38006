"""The rows of a table of numbers: a CSV file, or one of scikit-learn's."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dvae.data.events import EventDataModule, every_tenth
from dvae.data.images import Images, Split
from dvae.extras import require

__all__ = ["Table"]


@dataclass(frozen=True)
class _Rows:
    """A table as it was read: values ``(N, D)``, classes ``(N,)`` or None, and their names."""

    values: Tensor
    classes: Tensor | None
    columns: list[str]
    class_names: list[str] | None


class Table(EventDataModule):
    """Rows of numbers, each column less its mean and divided by its standard deviation.

    Both are those of the training rows, so that likelihoods are of values on this scale; `restore`
    takes rows, such as samples of a model, back to the table's own. Every tenth row is for the
    test.

    Args:
        table: Path of a CSV file whose first line names the columns, or the name of one of the
            tables that come with scikit-learn: ``breast_cancer``, ``diabetes``, ``digits``,
            ``iris``, ``wine``.
        label: Column of the file with the class of each row, a word or a number; none by default.
        batch_size: Training rows in a batch of one process, at least 1.
        val_size: Rows that validation takes out of the training rows, at least 0; by default one
            in ten, at most 500. 0 does not validate.
        seed: Seed of the order of the training rows. No part in what is evaluated.

    Raises:
        ValueError: A value out of range.
    """

    def __init__(
        self,
        table: str,
        label: str | None = None,
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """Check the values; nothing is read before it is asked for."""
        self.name = Path(table).stem
        super().__init__(batch_size, val_size, seed)
        self.table, self.label = table, label

    @cached_property
    def _rows(self) -> _Rows:
        if Path(self.table).suffix.lower() == ".csv":
            return _read_csv(Path(self.table).expanduser(), self.label)
        return _of_scikit_learn(self.table)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        trained = self._rows.values[every_tenth(len(self._rows.values), "train")]
        scale = trained.std(0, correction=0)
        return trained.mean(0), torch.where(scale > 0, scale, 1.0)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The number of columns, ``(D,)``."""
        return (len(self.columns),)

    @property
    def columns(self) -> list[str]:
        """What the columns are called, the label left out."""
        return self._rows.columns

    @property
    def labelled(self) -> bool:  # type: ignore[override]
        """Whether the rows have classes."""
        return self._rows.classes is not None

    @property
    def class_names(self) -> Sequence[str] | None:  # type: ignore[override]
        """What the classes are called."""
        return self._rows.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 where there are none."""
        return len(self._rows.class_names or [""])

    def load(self, split: Split) -> Images:
        """Take the rows of a split.

        Args:
            split: `train` or `test`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A value is not a number, or a row has too few.
            MissingExtra: The table is one of scikit-learn's, which is not installed.
        """
        rows, (mean, scale) = self._rows, self._moments
        places = every_tenth(len(rows.values), split)
        classes = torch.zeros(len(places)).long() if rows.classes is None else rows.classes[places]
        return Images(((rows.values[places] - mean) / scale).float(), classes)

    def restore(self, rows: Tensor) -> Tensor:
        """Take rows back to the table's own scale.

        Args:
            rows: Rows as a model sees and returns them, ``(..., D)``.

        Returns:
            The same shape, in the table's units, float64.
        """
        mean, scale = self._moments
        return rows.detach().cpu().double() * scale + mean


def _read_csv(path: Path, label: str | None) -> _Rows:
    with path.open(newline="", encoding="utf-8-sig") as file:
        names, *lines = [line for line in csv.reader(file) if line] or [[]]
    if label is not None and label not in names:
        raise ValueError(f"{path} has no column {label!r}; it has {', '.join(names) or 'none'}")
    places = [place for place, name in enumerate(names) if name != label]
    values = []
    for number, line in enumerate(lines, 1):
        if len(line) != len(names):
            raise ValueError(
                f"{path}: each row must have {len(names)} values; got {len(line)} in row {number}"
            )
        try:
            values.append([float(line[place]) for place in places])
        except ValueError as error:
            raise ValueError(
                f"{path}: all columns but data.label must hold numbers; row {number}: {error}"
            ) from error
    found = torch.tensor(values, dtype=torch.float64).view(len(lines), len(places))
    if not found.isfinite().all():
        raise ValueError(f"{path}: all values must be finite; got NaN or infinity among them")
    columns = [names[place] for place in places]
    if label is None:
        return _Rows(found, None, columns, None)
    words = [line[names.index(label)] for line in lines]
    classes = sorted(set(words))
    return _Rows(found, torch.tensor([classes.index(word) for word in words]), columns, classes)


def _of_scikit_learn(name: str) -> _Rows:
    datasets = require("sklearn.datasets", "tables")
    known = ("breast_cancer", "diabetes", "digits", "iris", "wine")
    if name not in known:
        raise ValueError(
            f"data.table must be a .csv file, or one of {', '.join(known)}; got {name!r}"
        )
    bunch = getattr(datasets, f"load_{name}")()
    classes = getattr(bunch, "target_names", None)
    return _Rows(
        torch.from_numpy(bunch.data).double(),
        None if classes is None else torch.from_numpy(bunch.target).long(),
        [str(column) for column in bunch.feature_names],
        None if classes is None else [str(word) for word in classes],
    )
