"""What convolutional networks share: halvings of the image, and the grid that comes of them."""

from abc import abstractmethod

from torch import Tensor, nn

from dvae.networks.base import Network

__all__ = ["ConvNetwork", "Residual", "check_sizes"]


class ConvNetwork(Network):
    """A network whose encoder halves height and width a number of times.

    Attributes:
        halvings: How often.
    """

    @property
    @abstractmethod
    def halvings(self) -> int:
        """How often the encoder halves height and width."""

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the features."""
        _, height, width = self.image_shape
        return height >> self.halvings, width >> self.halvings


class Residual(nn.Module):
    """A path added to a shortcut.

    Args:
        path: The layers.
        shortcut: What the path is added to; the input itself by default.
        gain: Factor on the path.
    """

    def __init__(self, path: nn.Module, shortcut: nn.Module | None = None, gain: float = 1) -> None:
        super().__init__()
        self.path = path
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Add the two."""
        result: Tensor = self.shortcut(x) + self.gain * self.path(x)
        return result


def check_sizes(network: ConvNetwork, **counts: int) -> None:
    """Check what a convolutional network is built from.

    Args:
        network: A frozen dataclass; a list from a config becomes a tuple.
        **counts: Other numbers that must be at least 1, by name.

    Raises:
        ValueError: A number below 1, or an image that does not divide.
    """
    name = type(network).__name__
    shape = tuple(network.image_shape)
    object.__setattr__(network, "image_shape", shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"{name}.image_shape must be channels, height and width, each >= 1; got {list(shape)}"
        )
    for key, value in (counts | {"halvings": network.halvings}).items():
        if value < 1:
            raise ValueError(f"{name}.{key} must be >= 1; got {value}")
    step = 2**network.halvings
    if shape[1] % step or shape[2] % step:
        below = [size // step * step for size in shape[1:]]
        near = sorted({size for low in below for size in (low, low + step) if size})
        raise ValueError(
            f"{name} halves the image {network.halvings} times, so height and width must be "
            f"multiples of {step} (near by: {', '.join(map(str, near))}); got {shape[1]}x{shape[2]}"
        )
