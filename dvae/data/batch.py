"""What one step receives: images with their labels, from whatever form people keep them in."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "as_batch", "as_pixels", "check_range"]

# The names that data sets of torchvision, of Hugging Face and of hand-written loaders use.
_IMAGE = ("image", "pixel_values", "x", "images", "img")
_LABEL = ("label", "labels", "y", "target")
# What resizing in floats, or half precision, may be off by.
_SLACK = 1e-3


# A NamedTuple and not a frozen dataclass: Lightning moves a batch to the device by rebuilding it,
# which it cannot do with a dataclass that refuses assignment.
class Batch(NamedTuple):
    """Images with their labels.

    Attributes:
        image: Shape (B, C, H, W): uint8 in 0..255 as stored, floats in [0, 1] once they are pixels
            (what a model sees).
        label: Class of each image, shape (B,), int64; None where nothing is known of it.
    """

    image: Tensor
    label: Tensor | None


def as_batch(batch: Any) -> Batch:
    """Find images and labels in a batch, whatever its form.

    Args:
        batch: A tensor of images; a tuple or list that begins with one, its labels second; a
            dictionary with the images as `image`, `pixel_values`, `x`, `images` or `img`; or any
            object that has an `image`, such as a `Batch`.

    Returns:
        The images as they are, and their labels where these are one integer each.

    Raises:
        ValueError: There are no images in it.
    """
    if isinstance(batch, Batch):
        return batch
    image, label = _parts(batch)
    if not isinstance(image, Tensor):
        raise ValueError(
            "a batch must be a tensor of images, (images, labels), or a dictionary with "
            f"'image', 'pixel_values' or 'x'; got {_describe(batch)}"
        )
    if not isinstance(label, Tensor) or label.shape != image.shape[:1] or label.is_floating_point():
        label = None
    return Batch(image, label)


def as_pixels(image: Tensor) -> Tensor:
    """Turn stored pixels into what a model sees.

    Args:
        image: uint8 in 0..255, bool, or floats in [0, 1], which are left as they are.

    Returns:
        Floats in [0, 1], the same shape.

    Raises:
        ValueError: The pixels are of another type.
    """
    if image.is_floating_point():
        return image
    if image.dtype == torch.uint8:
        return image.float().div_(255)
    if image.dtype == torch.bool:
        return image.float()
    raise ValueError(f"pixels must be uint8 in 0..255 or floats in [0, 1]; got {image.dtype}")


def check_range(image: Tensor) -> None:
    """Refuse floats outside [0, 1]; on a GPU this waits for the device.

    Args:
        image: Floats.

    Raises:
        ValueError: Some are outside [0, 1], as those normalised by a mean and a deviation are.
    """
    if not image.numel():
        return
    low, high = (float(value) for value in image.detach().aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is neither
        raise ValueError(
            f"pixels must be in [0, 1], or uint8 in 0..255; got floats from {low:.4g} to "
            f"{high:.4g} (take a normalisation out of the transforms)"
        )


def _parts(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, Mapping):
        return _first(batch, _IMAGE), _first(batch, _LABEL)
    if hasattr(batch, "image"):
        return batch.image, getattr(batch, "label", None)
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch):
        return batch[0], batch[1] if len(batch) > 1 else None
    return None, None


def _first(batch: Mapping[Any, Any], names: Sequence[str]) -> Any:
    return next((batch[name] for name in names if name in batch), None)


def _describe(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a dictionary with {', '.join(map(repr, batch)) or 'nothing'}"
    if isinstance(batch, Sequence) and len(batch):
        return f"a {type(batch).__name__} that begins with a {type(batch[0]).__name__}"
    return f"a {type(batch).__name__}"
