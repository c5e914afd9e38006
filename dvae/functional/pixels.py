"""Stored pixels and those that a model sees."""

import torch
from torch import Tensor

__all__ = ["as_pixels", "check_range"]

# What resizing in floats, or half precision, may be off by.
_SLACK = 1e-3


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
