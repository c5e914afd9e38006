"""Into which size an image file of any size is brought for a model."""

__all__ = ["LONGEST", "fitting_size"]

LONGEST = 384
"""Pixels of the longer side that an upload has at most, where the model's own are not larger.

Each click encodes and decodes it, and its places are to be clicked on.
"""


def fitting_size(size: tuple[int, int], stride: int, longest: int) -> tuple[int, int]:
    """Shrink an image to a length, and cut it to whole places of the code.

    Args:
        size: Height and width of the image.
        stride: Pixels of a place along a side.
        longest: Length that the longer side has at most.

    Returns:
        Height and width, multiples of the stride.

    Raises:
        ValueError: There is no whole place in it.
    """
    factor = min(1.0, longest / max(size))
    height, width = (round(n * factor) // stride * stride for n in size)
    if not height or not width:
        scaled = " that would be scaled down" if factor < 1 else ""
        raise ValueError(
            f"an image must have at least {stride} x {stride} pixels; got {size[1]} x {size[0]}"
            f"{scaled}"
        )
    return height, width
