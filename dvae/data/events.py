"""The data module that every data set of events that are not images is a small subclass of."""

from abc import abstractmethod

import torch
from torch import Tensor

from dvae.data.base import ImageDataModule
from dvae.data.batch import Batch
from dvae.data.images import ImageFiles, Images, Part, Split

__all__ = ["EventDataModule", "every_tenth"]


class EventDataModule(ImageDataModule):
    """Vectors, signals or sequences with labels, held on the device, shuffled and split as images.

    A data set of one's own is a subclass with `event_shape`, `num_classes` and `load`, which
    returns `Images` whose ``images`` are the events: real values as float32, or categories as
    int64. They reach the model as they are.

    Args:
        batch_size: Training examples in a batch of one process, at least 1.
        val_size: Examples that validation takes out of the training split, at least 0; by default
            one in ten, at most 500. 0 does not validate.
        seed: Seed of the order of the training examples. No part in what is evaluated.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(self, batch_size: int = 64, val_size: int | None = None, seed: int = 0) -> None:
        super().__init__(batch_size, val_size, "none", seed)

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Shape of an event."""

    @abstractmethod
    def load(self, split: Split) -> Images:
        """Read one split, in its order; see `ImageDataModule.load`.

        Args:
            split: `train` or `test`.

        Returns:
            All its events, ``(N, *event_shape)``, with their labels.
        """

    @property
    def image_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The same as `event_shape`: what a model compares with its network's."""
        return self.event_shape

    @property
    def protocol(self) -> str:
        """The data set and the shape of its events, for people and for tables of results."""
        return f"{self.name}, events of {'x'.join(map(str, self.event_shape))}"

    def train_mean(self) -> Tensor:
        """Average the training events, shape `event_shape`, float32."""
        events: Tensor = self._part("train").images.images.float()  # type: ignore[union-attr]
        return events.mean(0)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Leave a batch as it is: nothing is scaled."""
        return batch

    def _once(self, loaded: Images | ImageFiles, part: Part) -> Images | ImageFiles:
        assert isinstance(loaded, Images)
        found, count = tuple(loaded.images.shape[1:]), len(loaded.images)
        if found != tuple(self.event_shape) or not count or len(loaded.labels) != count:
            raise ValueError(
                f"{self.name} ({part}): there must be events of shape {tuple(self.event_shape)} "
                f"and one label for each; got {count} of {found} and {len(loaded.labels)} labels"
            )
        return loaded


def every_tenth(count: int, split: Split) -> Tensor:
    """Divide rows that come without a test split: every tenth is for the test.

    Args:
        count: Number of rows, at least 2.
        split: `train` or `test`.

    Returns:
        Positions of the rows of the split, ascending, int64; at least one.

    Raises:
        ValueError: There are fewer than two rows.
    """
    if count < 2:
        raise ValueError(f"there must be >= 2 rows, one of them for the test; got {count}")
    place = torch.arange(count)
    tested = place % 10 == 9 if count > 9 else place == count - 1
    return place[tested if split == "test" else ~tested]
