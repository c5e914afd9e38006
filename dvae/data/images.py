"""A set of images, in memory or in files, and the names of its parts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dvae.data.files import ImageFiles

__all__ = ["Images", "Part", "Rows", "Split"]

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
