"""The encoder and decoder of the first VQ-VAE."""

from dataclasses import dataclass

from torch import nn

from dvae.networks.conv import ConvNetwork, Residual, check_sizes

__all__ = ["VQVAENet"]


@dataclass(frozen=True)
class VQVAENet(ConvNetwork):
    """Two 4x4 convolutions of stride 2 and two residual blocks, mirrored by the decoder.

    Args:
        image_shape: Channels, height and width; multiples of 4.
        width: Channels of all hidden layers, at least 1; the paper has 256.

    Raises:
        ValueError: A size below 1, or an image that does not divide.

    References:
        A. van den Oord, O. Vinyals, K. Kavukcuoglu, 2017, arXiv 1711.00937, section 4.1.
    """

    image_shape: tuple[int, int, int] = (3, 32, 32)
    width: int = 256

    def __post_init__(self) -> None:
        """Check the values."""
        check_sizes(self, width=self.width)

    @property
    def halvings(self) -> int:
        """Two, as in the paper."""
        return 2

    def encoder(self, out_features: int) -> nn.Module:
        """Build ``(B, C, H, W)`` to ``(B, out_features, H / 4, W / 4)``."""
        return nn.Sequential(
            nn.Conv2d(self.image_shape[0], self.width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, self.width, 4, stride=2, padding=1),
            self._block(),
            self._block(),
            nn.ReLU(),
            nn.Conv2d(self.width, out_features, 1),
        )

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build ``(B, in_features, H / 4, W / 4)`` to ``(B, params_per_channel * C, H, W)``."""
        out = params_per_channel * self.image_shape[0]
        return nn.Sequential(
            nn.Conv2d(in_features, self.width, 1),
            self._block(),
            self._block(),
            nn.ReLU(),
            nn.ConvTranspose2d(self.width, self.width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(self.width, out, 4, stride=2, padding=1),
        )

    def _block(self) -> nn.Module:
        # "ReLU, 3x3 conv, ReLU, 1x1 conv" of equal width (section 4.1).
        return Residual(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(self.width, self.width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(self.width, self.width, 1),
            )
        )
