"""What convolutional networks share: halvings of the image, and the grid that comes of them."""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dvae.networks.base import Network

__all__ = ["Attention", "ConvNetwork", "Recomputed", "Residual", "check_sizes"]


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


class Attention(nn.Module):
    """Attention of each position of a grid to all of them; 0 until it is trained.

    It has no weights that depend on the size of the grid, which may be any.

    Args:
        width: Channels, a multiple of `heads`.
        heads: Parts of the channels that attend by themselves.

    References:
        A. Vaswani et al., 2017, arXiv 1706.03762, section 3.2.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Conv2d(width, 3 * width, 1)
        self.outward = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return what the positions of ``(B, width, H, W)`` tell one another, of that shape."""
        split = self.inward(x).flatten(2).unflatten(1, (3, self.heads, -1)).mT
        found = F.scaled_dot_product_attention(*split.unbind(1))
        result: Tensor = self.outward(found.mT.flatten(1, 2).unflatten(2, x.shape[2:]))
        return result


class Recomputed(nn.Sequential):
    """Layers of which training keeps no activations within a `Residual`: they are computed again.

    It takes one more forward pass, and the memory of one block; gradients are the same to the bit.

    References:
        T. Chen et al., 2016, arXiv 1604.06174.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers, as their names and those of their weights are in any `Sequential`."""
        for layer in self:
            if isinstance(layer, Residual) and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x)
        return x


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
