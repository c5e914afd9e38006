"""Vectors, signals or sequences in NumPy files."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dvae.data.events import EventDataModule, every_tenth
from dvae.data.images import Images, Split

__all__ = ["Arrays"]


class Arrays(EventDataModule):
    """The rows of an array: real values as they are, or integers as categories.

    Every tenth row is for the test. Nothing is scaled: values of about the size of 1 are best.

    Args:
        events: Path of a ``.npy`` file with an array ``(N, *event_shape)``: ``(N, D)`` of vectors,
            ``(N, C, T)`` of signals of C channels, integers ``(N, T)`` of sequences.
        labels: Path of a ``.npy`` file with N classes, integers from 0; none by default.
        batch_size: Training rows in a batch of one process, at least 1.
        val_size: Rows that validation takes out of the training rows, at least 0; by default one
            in ten, at most 500. 0 does not validate.
        seed: Seed of the order of the training rows. No part in what is evaluated.

    Raises:
        ValueError: A value out of range.
    """

    def __init__(
        self,
        events: str,
        labels: str | None = None,
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """Check the values; nothing is read before it is asked for."""
        self.name = Path(events).stem
        super().__init__(batch_size, val_size, seed)
        self.events, self.labels = events, labels
        self.labelled = labels is not None

    @cached_property
    def _events(self) -> Tensor:
        found = _read(self.events)
        if found.dim() < 2:
            raise ValueError(f"{self.events}: events must be (N, ...); got {tuple(found.shape)}")
        return found.float() if found.is_floating_point() else found.long()

    @cached_property
    def _labels(self) -> Tensor:
        if self.labels is None:
            return torch.zeros(len(self._events), dtype=torch.int64)
        found = _read(self.labels)
        if found.is_floating_point() or found.shape != self._events.shape[:1]:
            raise ValueError(
                f"{self.labels}: labels must be one integer for each of {len(self._events)} "
                f"events; got {found.dtype} of shape {tuple(found.shape)}"
            )
        return found.long()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self._events.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 where there are no labels."""
        return 1 + int(self._labels.max())

    def load(self, split: Split) -> Images:
        """Take the rows of a split.

        Args:
            split: `train` or `test`.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: An array is of the wrong kind or shape.
        """
        places = every_tenth(len(self._events), split)
        return Images(self._events[places], self._labels[places])


def _read(path: str) -> Tensor:
    try:
        array = np.load(Path(path).expanduser(), allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise ValueError(f"{path}: one array of numbers was expected, as np.save writes it")
    # A copy in this machine's order of bytes, which torch needs.
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
