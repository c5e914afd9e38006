"""A set of images, in memory or in files, and the names of its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dvae.data.batch import Batch
from dvae.data.seeding import seeded_generator

__all__ = [
    "ImageFiles",
    "Images",
    "Part",
    "Rows",
    "Split",
    "check_images",
    "class_name",
    "hold_out",
]

Split = Literal["train", "test"]
"""A part that the authors of a data set published; validation images come out of `train`."""

Part = Literal["train", "val", "test"]
"""What a run has: `train` and `val` are disjoint parts of the published `train`."""


@dataclass(frozen=True)
class Images:
    """A set of images with their labels.

    Attributes:
        images: Shape (N, C, H, W), uint8 in 0..255.
        labels: Classes, shape (N,), int64.
        names: Names of their files, or None where they have none of their own.
    """

    images: Tensor
    labels: Tensor
    names: list[str] | None = None

    def select(self, index: Tensor) -> "Images":
        """Take some of the images.

        Args:
            index: Which ones, shape (M,), int64.

        Returns:
            Those M images with their labels.
        """
        images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        return Images(images, labels, _some(self.names, index))

    def mean(self) -> Tensor:
        """Average the images, shape (C, H, W), float32 in [0, 1]."""
        total = torch.zeros(self.images.shape[1:], dtype=torch.int64)
        # In chunks, because the sum widens every byte it reads to eight.
        for chunk in torch.split(self.images, 8192):
            total += chunk.sum(0, dtype=torch.int64)
        return (total.double() / (255 * len(self.images))).float()


@dataclass(frozen=True)
class ImageFiles(Dataset[Batch]):
    """A set of images too large for memory, with their labels.

    Attributes:
        paths: The files.
        labels: Classes, shape (N,), int64.
        read: Turns a path into an image, shape (C, H, W), uint8; it runs in worker processes.
        names: Names of the files for people, such as those below their folder.
    """

    paths: Sequence[Path]
    labels: Tensor
    read: Callable[[Path], Tensor]
    names: list[str] | None = None

    def __len__(self) -> int:
        """Count the files."""
        return len(self.paths)

    def __getitem__(self, position: int) -> Batch:
        """Read one image."""
        return Batch(self.read(self.paths[position]), self.labels[position])

    def select(self, index: Tensor) -> "ImageFiles":
        """Take some of the files.

        Args:
            index: Which ones, shape (M,), int64.
        """
        paths = [self.paths[i] for i in index.tolist()]
        labels = self.labels.index_select(0, index)
        return ImageFiles(paths, labels, self.read, _some(self.names, index))


@dataclass(frozen=True)
class Rows:
    """A part of a data set in its order, as it is encoded: without augmentation.

    Attributes:
        images: The images, binarised once and for all where the protocol binarises.
        index: Position of each in the published split, shape (N,), int64.
    """

    images: Images | ImageFiles
    index: Tensor

    @classmethod
    def whole(cls, images: Images | ImageFiles) -> "Rows":
        """Take all images of a published split."""
        return cls(images, torch.arange(len(images.labels)))

    @property
    def files(self) -> list[str] | None:
        """Names of the images' files, or None where the data set has none."""
        return self.images.names


def hold_out(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Choose the validation images of a split: the same ones in every run, whatever its seed.

    Args:
        count: Images in the split.
        held_out: How many of them are for validation, below `count`.

    Returns:
        Positions of the images to train on, and of those to validate on, both ascending, int64.
    """
    order = torch.randperm(count, generator=seeded_generator("validation split"))
    return order[held_out:].sort().values, order[:held_out].sort().values


def class_name(label: int, names: Sequence[str] | None) -> int | str:
    """Return what people call a class; its number where it has no name.

    Args:
        label: The number.
        names: The names, in order, if there are any.
    """
    return names[label] if names is not None and 0 <= label < len(names) else label


def check_images(loaded: Images, name: str, shape: tuple[int, ...]) -> None:
    """Refuse what a data set has loaded wrongly.

    Args:
        loaded: Its images.
        name: What they are called in the message.
        shape: Channels, height and width that they are to have.

    Raises:
        ValueError: They are not bytes, have another shape, are none, or lack a label each.
    """
    found, count = tuple(loaded.images.shape[1:]), len(loaded.images)
    if found != tuple(shape) or loaded.images.dtype != torch.uint8:
        raise ValueError(
            f"{name}: images must be uint8 of shape {tuple(shape)}, "
            f"got {loaded.images.dtype} of shape {found}."
        )
    if count == 0 or len(loaded.labels) != count:
        raise ValueError(
            f"{name}: there must be images and one label for each, "
            f"got {count} images and {len(loaded.labels)} labels."
        )


def _some(names: list[str] | None, index: Tensor) -> list[str] | None:
    return None if names is None else [names[i] for i in index.tolist()]
