"""Residual convolutions over time, for signals: `ResNet` with one axis."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from dvae.networks.base import Network
from dvae.networks.conv import Residual

__all__ = ["ResNet1d"]

# As of `ResNet`: channels in a group of the norms, and the widest level.
_GROUP = 8
_WIDEST = 4


@dataclass(frozen=True)
class ResNet1d(Network):
    """A strided convolution and residual blocks at each level, mirrored by the decoder.

    A signal of T steps becomes a grid of ``T / 2 ** halvings`` positions. The width doubles with
    each halving, up to four times.

    Args:
        event_shape: Channels and steps; the steps are a multiple of ``2 ** halvings``.
        width: Channels at half the steps, a multiple of 8.
        halvings: Levels, at least 1.
        blocks: Residual blocks of a level, at least 1.

    Raises:
        ValueError: A size below 1, a width that is not a multiple of 8, or steps that do not
            divide.

    Example:
        >>> import torch
        >>> net = ResNet1d((2, 64), width=8, halvings=3)
        >>> net.grid, net.encoder(5)(torch.zeros(4, 2, 64)).shape
        ((8,), torch.Size([4, 5, 8]))
        >>> net.decoder(5, 3)(torch.zeros(4, 5, 8)).shape
        torch.Size([4, 6, 64])
    """

    event_shape: tuple[int, ...] = (1, 64)
    width: int = 32
    halvings: int = 2
    blocks: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        shape = tuple(self.event_shape)
        object.__setattr__(self, "event_shape", shape)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                f"ResNet1d.event_shape must be channels and steps, each >= 1; got {list(shape)}"
            )
        for name in ("halvings", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"ResNet1d.{name} must be >= 1; got {getattr(self, name)}")
        if self.width < 1 or self.width % _GROUP:
            raise ValueError(f"ResNet1d.width must be a multiple of {_GROUP}; got {self.width}")
        if shape[1] % 2**self.halvings:
            raise ValueError(
                f"ResNet1d halves the steps {self.halvings} times, so they must be a multiple of "
                f"{2**self.halvings}; got {shape[1]}"
            )

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of positions, ``(T / 2 ** halvings,)``."""
        return (self.event_shape[1] >> self.halvings,)

    def encoder(self, out_features: int) -> nn.Module:
        """Build ``(B, C, T)`` to ``(B, out_features, *grid)``."""
        widths = [self.event_shape[0], *self._widths()]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv1d(before, after, 4, stride=2, padding=1), *self._level(after)]
        return nn.Sequential(*layers, *_ending(widths[-1], out_features, 1))

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build ``(B, in_features, *grid)`` to ``(B, params_per_channel * C, T)``."""
        widths = self._widths()[::-1]
        # Of each code alone: it begins as what it says of its own place.
        layers: list[nn.Module] = [nn.Conv1d(in_features, widths[0], 1)]
        for before, after in pairwise([*widths, widths[-1]]):
            up = [nn.Upsample(scale_factor=2), nn.Conv1d(before, after, 3, padding=1)]
            layers += [*self._level(before), *up]
        return nn.Sequential(
            *layers, *_ending(widths[-1], params_per_channel * self.event_shape[0], 3)
        )

    def _widths(self) -> list[int]:
        return [self.width * min(2**level, _WIDEST) for level in range(self.halvings)]

    def _level(self, width: int) -> list[nn.Module]:
        return [_block(width) for _ in range(self.blocks)]


def _block(width: int) -> nn.Module:
    first, last = _ending(width, width, 3), _ending(width, width, 3)
    # Each block starts as the identity, so that depth costs nothing at the start.
    nn.init.zeros_(last[-1].weight)  # type: ignore[arg-type]
    return Residual(nn.Sequential(*first, *last))


def _ending(width: int, out: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv1d(width, out, kernel, padding=kernel // 2)
    return [nn.GroupNorm(width // _GROUP, width), nn.SiLU(), conv]
