"""What one step receives: examples with their labels, from whatever form people keep them in."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dvae.data.reading import ImageReader
from dvae.functional import as_pixels, check_range

__all__ = [
    "Batch",
    "CodeBatch",
    "as_batch",
    "as_bytes",
    "as_pixels",
    "check_range",
    "shape_of",
]

# The names that data sets of torchvision, of Hugging Face and of hand-written loaders use.
_IMAGE = ("image", "pixel_values", "x", "images", "img")
_LABEL = ("label", "labels", "y", "target")
_PICTURE = (Tensor, np.ndarray, Image.Image)


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

    def first(self, count: int) -> "Batch":
        """Take the first of them.

        Args:
            count: How many, at least 1.
        """
        return Batch(self.image[:count], None if self.label is None else self.label[:count])


class CodeBatch(NamedTuple):
    """Codes without their images, to train a prior on.

    Attributes:
        code: Integers ``(B, *positions)``, int64.
        label: Class of each image, shape (B,), int64; None where nothing is known of it.
    """

    code: Tensor
    label: Tensor | None


def as_batch(batch: Any, shape: tuple[int, ...]) -> Batch:
    """Find images and labels in a batch, whatever its form.

    Args:
        batch: Images; a tuple or list of them with their labels second; a dictionary with the
            images as `image`, `pixel_values`, `x`, `images` or `img`; any object that has an
            `image`, such as a `Batch`; or a list of rows, each of them one of these. Images are a
            tensor; a NumPy array, one or several, its channels first or last or left out where
            there is one; or PIL images, which are read as image files are.
        shape: Channels, height and width that the images are to have. Tensors are left as they are.
            Of events that are not images, their shape: all that is said of tensors and arrays holds
            for them too.

    Returns:
        The images, (B, C, H, W), and their labels where these are one integer each.

    Raises:
        ValueError: There are no images in it.
    """
    if isinstance(batch, Batch):
        return batch
    image, label = _parts(batch, len(shape))
    image = _stacked(image, shape)
    if image is None:
        raise ValueError(
            "a batch must be a tensor of images, (images, labels), or a dictionary with "
            f"'image', 'pixel_values' or 'x'; got {_describe(batch)}"
        )
    return Batch(image, _classes(label, len(image)))


def shape_of(row: Any) -> tuple[int, int, int]:
    """Tell what channels, height and width the image of one row has.

    Args:
        row: What `as_batch` takes as one of several rows.

    Raises:
        ValueError: There is no image in it.
    """
    image, _ = _pair(row)
    if isinstance(image, Image.Image):
        return 1 if image.mode[0] in "1LIF" else 3, image.height, image.width
    size: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if isinstance(image, np.ndarray):
        size = (1, *size) if len(size) == 2 else size
        size = (size[-1], *size[:-1]) if size[-1:] in ((1,), (3,)) else size
    if len(size) != 3:
        raise ValueError(f"a row must have an image of (C, H, W); got {_describe(row)}")
    return size[0], size[1], size[2]


def as_bytes(image: Tensor) -> Tensor:
    """Turn pixels into what is stored, the inverse of `as_pixels` up to 8 bits.

    Args:
        image: uint8 in 0..255, bool, or floats in [0, 1].

    Returns:
        uint8 in 0..255, the same shape.

    Raises:
        ValueError: The pixels are of another type, or outside of [0, 1].
    """
    if image.dtype == torch.uint8:
        return image
    pixels = as_pixels(image)
    check_range(pixels)
    return (255 * pixels).round().clamp(0, 255).byte()


def _parts(batch: Any, axes: int) -> tuple[Any, Any]:
    if _is_list(batch) and _are_rows(batch, axes):
        images, labels = zip(*map(_pair, batch), strict=True)
        return list(images), list(labels)
    return _pair(batch)


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, _PICTURE):
        return batch, None
    if isinstance(batch, Mapping):
        return _first(batch, _IMAGE), _first(batch, _LABEL)
    if hasattr(batch, "image"):
        return batch.image, getattr(batch, "label", None)
    if _is_list(batch):
        return batch[0], batch[1] if len(batch) > 1 else None
    return None, None


def _are_rows(batch: Sequence[Any], axes: int) -> bool:
    """Tell rows, as `collate_fn=list` gives them, from images with their labels."""
    first = batch[0]
    if isinstance(first, _PICTURE):
        size = _size(first)
        alone = size is None or len(size) <= axes
        return alone and all(isinstance(one, _PICTURE) and _size(one) == size for one in batch)
    if _is_list(first):
        return not _are_pictures(first) or all(map(_are_pictures, batch))
    return isinstance(first, Mapping) or hasattr(first, "image")


def _size(picture: Any) -> tuple[int, ...] | None:
    return None if isinstance(picture, Image.Image) else tuple(picture.shape)


def _are_pictures(batch: Any) -> bool:
    return _is_list(batch) and all(isinstance(one, _PICTURE) and _size(one) != () for one in batch)


def _is_list(batch: Any) -> bool:
    return isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) > 0


def _stacked(image: Any, shape: tuple[int, ...]) -> Tensor | None:
    if isinstance(image, Tensor):
        return image
    if isinstance(image, np.ndarray):
        return _channels_first(image, shape)
    if isinstance(image, Image.Image):
        return _reader(shape).convert(image)[None]
    if not _are_pictures(image):
        return None
    found: list[Any] = [
        one[None] if isinstance(one, Tensor) else _stacked(one, shape) for one in image
    ]
    kinds = {f"{one.dtype} {tuple(one.shape[1:])}" for one in found}
    if len(kinds) > 1:
        raise ValueError(f"images must be of one type and shape; got {' and '.join(sorted(kinds))}")
    return torch.cat(found)


def _reader(shape: tuple[int, ...]) -> ImageReader:
    if len(shape) != 3:
        raise ValueError(f"events of shape {shape} are not images; got a PIL image")
    return ImageReader((shape[0], shape[1], shape[2]))


def _channels_first(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Tensor:
    if array.dtype.kind not in "buif":
        raise ValueError(f"pixels must be uint8 in 0..255 or floats in [0, 1]; got {array.dtype}")
    # A copy, since an array may be read-only, run backwards, or be in another machine's order.
    image = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    channels, *size = shape
    if len(shape) == 3 and image.shape[-3:] != tuple(shape):
        if channels == 1 and image.dim() < 4 and list(image.shape[-2:]) == size:
            image = image.unsqueeze(-3)
        elif image.shape[-3:] == (*size, channels):
            image = image.movedim(-1, -3)
    return image[None] if image.dim() == len(shape) else image


def _classes(label: Any, count: int) -> Tensor | None:
    """Return the labels of a batch where they are one integer each."""
    if not isinstance(label, Tensor):
        with suppress(TypeError, ValueError, RuntimeError):  # boxes, captions and the like
            label = torch.as_tensor(np.atleast_1d(np.array(label)))
    if not isinstance(label, Tensor) or label.is_floating_point():
        return None
    return label if label.shape == (count,) else None


def _first(batch: Mapping[Any, Any], names: Sequence[str]) -> Any:
    return next((batch[name] for name in names if name in batch), None)


def _describe(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a dictionary with {', '.join(map(repr, batch)) or 'nothing'}"
    if isinstance(batch, Sequence) and len(batch):
        return f"a {type(batch).__name__} that begins with a {type(batch[0]).__name__}"
    return f"a {type(batch).__name__}"
