"""Distance between images in the features of a network trained on ImageNet."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dvae.features import EfficientNetLite
from dvae.penalties.base import Penalty, per_example

__all__ = ["Perceptual"]

# Of a network that halves five times, what is left of smaller images says nothing of places.
_LEAST = 32


class Perceptual(Penalty):
    r"""Mean squared distance of unit-length features of EfficientNet-Lite0, over five resolutions.

    At each resolution the features of a position are a direction; the distance of two directions,
    in [0, 4], is averaged over positions and then over resolutions. The features are LPIPS's recipe
    without its learned weights, on a network whose weights travel in a package (the extra
    ``perceptual``). They are no part of the model's checkpoint, and are needed in training alone.

    Args:
        weight: Factor, at least 0, on the distance times the numbers of an image; see `Penalty`.

    Raises:
        ValueError: ``weight`` is negative; before training, images of below 32 pixels, or of 2 or
            more than 3 channels.
        MissingExtra: Before training, the network is not installed.

    References:
        R. Zhang et al., 2018, arXiv 1801.03924, eq. 1 (LPIPS).
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        # In a list, so that 4 million weights that never change stay out of the checkpoint.
        self._network: list[EfficientNetLite] = []

    def prepare(self, image_shape: tuple[int, int, int]) -> None:
        """Read the network; see `Penalty.prepare`."""
        channels, *size = image_shape
        if channels not in (1, 3) or min(size) < _LEAST:
            raise ValueError(
                f"Perceptual needs images of 1 or 3 channels and at least {_LEAST}x{_LEAST} "
                f"pixels; got {'x'.join(map(str, image_shape))}"
            )
        if not self._network:
            self._network = [EfficientNetLite(0)]

    def forward(self, picture: Tensor, image: Tensor) -> Tensor:
        """Compute the distance; see `Penalty.forward`."""
        self.prepare(tuple(image.shape[1:]))  # type: ignore[arg-type]
        network = self._network[0].to(image.device, image.dtype)
        with torch.no_grad():
            wanted = [_unit(level) for level in network.levels(image)]
        found = [_unit(level) for level in network.levels(picture)]
        pairs = zip(found, wanted, strict=True)
        return torch.stack([per_example((a - b).square().sum(1), image) for a, b in pairs]).mean(0)


def _unit(level: Tensor) -> Tensor:
    return F.normalize(level.to(torch.promote_types(level.dtype, torch.float32)))
