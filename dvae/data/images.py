"""A set of images, in memory or in files, and the names of its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dvae.data.files import ImageFiles

__all__ = ["Images", "Part", "Rows", "Split", "check_images", "class_name"]

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
    """

    images: Tensor
    labels: Tensor

    def select(self, index: Tensor) -> "Images":
        """Take some of the images.

        Args:
            index: Which ones, shape (M,), int64.

        Returns:
            Those M images with their labels.
        """
        return Images(self.images.index_select(0, index), self.labels.index_select(0, index))

    def mean(self) -> Tensor:
        """Average the images, shape (C, H, W), float32 in [0, 1]."""
        total = torch.zeros(self.images.shape[1:], dtype=torch.int64)
        # In chunks, because the sum widens every byte it reads to eight.
        for chunk in torch.split(self.images, 8192):
            total += chunk.sum(0, dtype=torch.int64)
        return (total.double() / (255 * len(self.images))).float()


@dataclass(frozen=True)
class Rows:
    """A part of a data set in its order, as it is encoded: without augmentation.

    Attributes:
        images: The images, binarised once and for all where the protocol binarises.
        index: Position of each in the published split, shape (N,), int64.
        files: Names of their files, or None where the data set has none.
    """

    images: Images | ImageFiles
    index: Tensor
    files: list[str] | None


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
