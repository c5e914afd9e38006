"""The encoder and decoder of DALL-E's discrete VAE."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from dvae.networks.conv import ConvNetwork, Residual, check_sizes

__all__ = ["DALLENet"]


@dataclass(frozen=True)
class DALLENet(ConvNetwork):
    """Groups of bottleneck blocks, each of twice the width and half the size of the one before.

    The blocks of the encoder end in 1x1 convolutions, those of the decoder begin with them; the
    encoder pools by the maximum and the decoder repeats pixels. The residual paths have the gain
    ``1 / layers ** 2``. With 3 halvings and width 256 it is the published network, but for its
    channels at the code: those are the bottleneck's.

    Args:
        image_shape: Channels, height and width; multiples of ``2 ** halvings``.
        width: Channels at full size, a multiple of 4; the paper has 256.
        halvings: Groups less one, at least 1; the paper has 3.
        blocks: Blocks of a group, at least 1; the paper has 2.
        init_width: Channels that the decoder starts with, at least 1.

    Raises:
        ValueError: A size below 1, a width that is not a multiple of 4, or an image that does not
            divide.

    References:
        A. Ramesh et al., 2021, arXiv 2102.12092, appendix A.2.
    """

    image_shape: tuple[int, int, int] = (3, 256, 256)
    width: int = 256
    halvings: int = 3
    blocks: int = 2
    init_width: int = 128

    def __post_init__(self) -> None:
        """Check the values."""
        check_sizes(self, width=self.width, blocks=self.blocks, init_width=self.init_width)
        if self.width % 4:
            raise ValueError(f"DALLENet.width must be a multiple of 4; got {self.width}")

    def encoder(self, out_features: int) -> nn.Module:
        """Build ``(B, C, H, W)`` to ``(B, out_features, *grid)``."""
        widths = [self.width, *self._widths()]
        layers: list[nn.Module] = [nn.Conv2d(self.image_shape[0], self.width, 7, padding=3)]
        for group, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.MaxPool2d(2)] if group else []
            layers += self._group(before, after, kernels=(3, 3, 3, 1))
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(widths[-1], out_features, 1))

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build ``(B, in_features, *grid)`` to ``(B, params_per_channel * C, H, W)``."""
        widths = [self.init_width, *reversed(self._widths())]
        layers: list[nn.Module] = [nn.Conv2d(in_features, self.init_width, 1)]
        for group, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Upsample(scale_factor=2)] if group else []
            layers += self._group(before, after, kernels=(1, 3, 3, 3))
        out = params_per_channel * self.image_shape[0]
        return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(self.width, out, 1))

    def _widths(self) -> list[int]:
        return [self.width * 2**group for group in range(self.halvings + 1)]

    def _group(self, before: int, after: int, kernels: tuple[int, ...]) -> list[nn.Module]:
        return [
            self._block(before if block == 0 else after, after, kernels)
            for block in range(self.blocks)
        ]

    def _block(self, before: int, after: int, kernels: tuple[int, ...]) -> nn.Module:
        widths = [before, *[after // 4] * (len(kernels) - 1), after]
        path: list[nn.Module] = []
        for (inner, outer), kernel in zip(pairwise(widths), kernels, strict=True):
            path += [nn.ReLU(), nn.Conv2d(inner, outer, kernel, padding=kernel // 2)]
        shortcut = None if before == after else nn.Conv2d(before, after, 1)
        layers = (self.halvings + 1) * self.blocks
        return Residual(nn.Sequential(*path), shortcut, gain=layers**-2)
