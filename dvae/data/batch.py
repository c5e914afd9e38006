"""What one training step receives: images with their labels."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch"]


# A NamedTuple and not a frozen dataclass: Lightning moves a batch to the device by rebuilding it,
# which it cannot do with a dataclass that refuses assignment.
class Batch(NamedTuple):
    """Images with their labels.

    Attributes:
        image: Shape (B, C, H, W): uint8 in 0..255 as stored, float32 in [0, 1] once the data module
            has prepared it on the device (what a model sees).
        label: Class of each image, shape (B,), int64.
    """

    image: Tensor
    label: Tensor
