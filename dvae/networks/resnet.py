"""The default network for images: residual blocks with group norm and SiLU."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from dvae.networks.conv import Attention, ConvNetwork, Recomputed, Residual, check_sizes

__all__ = ["ResNet"]

# Channels are counted in groups of this many for the norms, so widths are multiples of it.
_GROUP = 8
# Channels of a head of attention, of which there is at least one.
_HEAD = 64
# Deeper levels stay at this multiple of the width: most of the parameters are there already.
_WIDEST = 4


@dataclass(frozen=True)
class ResNet(ConvNetwork):
    """A strided convolution and residual blocks at each level, mirrored by the decoder.

    Nothing but the first and last convolution works at full size, which is where most of the time
    of such networks goes. The width doubles with each halving, up to four times.

    Args:
        image_shape: Channels, height and width; multiples of ``2 ** halvings``.
        width: Channels at half size, a multiple of 8.
        halvings: Levels, at least 1: 2 makes a grid of 8x8 from 32x32 and of 7x7 from 28x28.
        blocks: Residual blocks of a level, at least 1.
        attention: Whether the positions of the coarsest level attend to one another, before the
            encoder's last layer and after the first blocks of the decoder.
        checkpointing: Whether training computes the blocks again in the backward pass in place of
            keeping their activations: the same gradients in less memory and more time.

    Raises:
        ValueError: A size below 1, a width that is not a multiple of 8, or an image that does not
            divide.
    """

    image_shape: tuple[int, int, int] = (3, 32, 32)
    width: int = 64
    halvings: int = 2
    blocks: int = 2
    attention: bool = False
    checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_sizes(self, width=self.width, blocks=self.blocks)
        if self.width % _GROUP:
            raise ValueError(f"ResNet.width must be a multiple of {_GROUP}; got {self.width}")

    def encoder(self, out_features: int) -> nn.Module:
        """Build ``(B, C, H, W)`` to ``(B, out_features, *grid)``."""
        widths = [self.image_shape[0], *self._widths()]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), *self._level(after)]
        layers += self._attention(widths[-1])
        return self._whole(*layers, *_ending(widths[-1], out_features, 1))

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build ``(B, in_features, *grid)`` to ``(B, params_per_channel * C, H, W)``."""
        widths = self._widths()[::-1]
        layers: list[nn.Module] = [nn.Conv2d(in_features, widths[0], 3, padding=1)]
        layers += [*self._level(widths[0]), *self._attention(widths[0])]
        for before, after in pairwise(widths):
            up = [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
            layers += [*up, *self._level(after)]
        out = params_per_channel * self.image_shape[0]
        # Four output pixels from one of half size: cheaper than a convolution at full size.
        return self._whole(*layers, *_ending(widths[-1], 4 * out, 3), nn.PixelShuffle(2))

    def _whole(self, *layers: nn.Module) -> nn.Sequential:
        return Recomputed(*layers) if self.checkpointing else nn.Sequential(*layers)

    def _attention(self, width: int) -> list[nn.Module]:
        if not self.attention:
            return []
        heads = width // _HEAD if width % _HEAD == 0 else 1
        return [
            Residual(nn.Sequential(nn.GroupNorm(width // _GROUP, width), Attention(width, heads)))
        ]

    def _widths(self) -> list[int]:
        return [self.width * min(2**level, _WIDEST) for level in range(self.halvings)]

    def _level(self, width: int) -> list[nn.Module]:
        return [_block(width) for _ in range(self.blocks)]


def _block(width: int) -> nn.Module:
    second, first = (_ending(width, width, 3) for _ in range(2))
    # Each block starts as the identity, so that depth costs nothing at the start.
    nn.init.zeros_(second[-1].weight)  # type: ignore[arg-type]
    return Residual(nn.Sequential(*first, *second))


def _ending(width: int, out: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(width, out, kernel, padding=kernel // 2)
    return [nn.GroupNorm(width // _GROUP, width), nn.SiLU(), conv]
