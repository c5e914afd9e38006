"""Any data set that Python can import, read once and held in memory as bytes."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import psutil
import torch
from torch.utils.data import Dataset

from dvae.data.base import ImageDataModule
from dvae.data.batch import as_batch, as_bytes, shape_of
from dvae.data.binarize import Binarization
from dvae.data.images import Images, Split

__all__ = ["AnyDataset"]


class AnyDataset(ImageDataModule):
    """The rows of a data set of one's own, of torchvision's or of anybody's.

    A row is what a model takes as a batch, of one image: see `dvae.data.batch.as_batch`. Each is
    read once, so that what its transforms draw is drawn once, and pixels are kept in 8 bits.

    Args:
        dataset: Training images: an object with a length and rows by number.
        test: The same with the test images; every tenth row of `dataset` by default.
        image_size: Height and width that PIL images are brought to; those of the first by default.
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; by default one
            in ten, at most 500. 0 does not validate.
        binarization: `none`, `dynamic`, `fixed` or `threshold`.
        seed: Order of the training images. No part in what is evaluated.

    Raises:
        ValueError: If a value is out of range, or a data set has no rows by number.
    """

    def __init__(
        self,
        dataset: Dataset,  # type: ignore[type-arg] # with one the command line takes no class
        test: Dataset | None = None,  # type: ignore[type-arg]
        image_size: int | None = None,
        batch_size: int = 64,
        val_size: int | None = None,
        binarization: Binarization = "none",
        seed: int = 0,
    ) -> None:
        """Check the values; no row is read before `setup`."""
        self.name = type(dataset).__name__
        super().__init__(batch_size, val_size, binarization, seed)
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size must be >= 1; got {image_size}")
        self.image_size = image_size
        count = _count(dataset)
        tested = range(9, count, 10) or range(count)[-1:]
        trained = [n for n in range(count) if test is not None or n not in tested]
        of_test = (dataset, tested) if test is None else (test, range(_count(test)))
        self._rows: dict[Split, tuple[Any, Sequence[int]]]
        self._rows = {"train": (dataset, trained), "test": of_test}

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """That of the first image, with `image_size` where that is given."""
        dataset, _ = self._rows["train"]
        channels, *size = shape_of(dataset[0])
        height, width = [self.image_size] * 2 if self.image_size else size
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes of the training images, at least 1."""
        if self.class_names:
            return len(self.class_names)
        return 1 + max(int(self._part(part).images.labels.max()) for part in ("train", "val"))

    @property
    def class_names(self) -> Sequence[str] | None:  # type: ignore[override]
        """What the data set has as `classes`."""
        names = getattr(self._rows["train"][0], "classes", None)
        return names if isinstance(names, list | tuple) else None

    def load(self, split: Split) -> Images:
        """Read the rows of a split.

        Args:
            split: `train` or `test`.

        Raises:
            ValueError: If there are none, one has no image or another shape, or they are too many
                for memory.
        """
        dataset, places = self._rows[split]
        shape, count = self.image_shape, len(places)
        if 2 * math.prod(shape) * count > psutil.virtual_memory().available:
            raise ValueError(
                f"{self.name}: {count} images of {'x'.join(map(str, shape))} take more than half "
                "of the free memory; from a folder they are read by workers (ImageFolder)"
            )
        images, labels = torch.empty(count, *shape, dtype=torch.uint8), []
        for n, place in enumerate(places):
            image, label = as_batch([dataset[place]], shape)
            if image.shape[1:] != shape:
                raise ValueError(
                    f"{self.name}: images must be of one shape, which is {shape} in the first row; "
                    f"got {tuple(image.shape[1:])} in row {place}"
                )
            images[n] = as_bytes(image)[0]
            labels.append(label)
        known = [label for label in labels if label is not None]
        self.labelled = len(known) == count
        return Images(
            images, torch.cat(known).long() if self.labelled else torch.zeros(count).long()
        )


def _count(dataset: Any) -> int:
    try:
        count = len(dataset)
    except TypeError:
        count = 0
    if not count:
        raise ValueError(
            f"a data set must have rows by number; got none of {type(dataset).__name__}"
        )
    return count
