"""A discriminator of patches, which learns to tell images from reconstructions."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dvae.penalties.base import Penalty, per_example
from dvae.scalars import check_count

__all__ = ["Adversarial", "PatchDiscriminator"]

# Channels are counted in groups of this many for the norms, so widths are multiples of it.
_GROUP = 8
# Of VQGAN: bounds of the adaptive weight.
_TINY, _MOST = 1e-6, 1e4


class PatchDiscriminator(nn.Sequential):
    """Strided convolutions to a score for each patch, high for what looks like an image.

    Args:
        channels: Channels of the images.
        width: Channels of the first layer, doubled by each that follows, a multiple of 8.
        layers: Halvings of the image, at least 1.

    References:
        P. Isola et al., 2017, arXiv 1611.07004, section 3.2.2 (PatchGAN; its batch norms are group
        norms here, so that the score of an image does not depend on its batch).
    """

    def __init__(self, channels: int, width: int, layers: int) -> None:
        found: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), _leaky()]
        for level in range(1, layers + 1):
            before, after = width * 2 ** (level - 1), width * 2**level
            stride = 2 if level < layers else 1
            found += [
                nn.Conv2d(before, after, 4 if stride == 2 else 3, stride=stride, padding=1),
                nn.GroupNorm(after // _GROUP, after),
                _leaky(),
            ]
        super().__init__(*found, nn.Conv2d(width * 2**layers, 1, 3, padding=1))


class Adversarial(Penalty):
    r"""What a discriminator of patches says of a reconstruction; it is trained beside the model.

    The model's term is :math:`-D(\hat x)`, the discriminator's the hinge loss
    :math:`\max(0, 1 - D(x)) + \max(0, 1 + D(\hat x))`, both averaged over patches. They are terms
    of one loss with one backward pass: the first sees the discriminator's weights as constants,
    the second sees the reconstruction as one. Before the weight is above 0 neither is trained, so a
    later start is a schedule of the weight that begins with 0.

    Args:
        weight: Factor, at least 0, on the term; see `Penalty`.
        adaptive: Whether the weight is also multiplied by the ratio of two norms: of the gradients
            of all other terms, and of this one, in the decoder's output. A weight of 0.1 is then a
            tenth of their pull.
        width: Channels of the discriminator's first layer, a multiple of 8.
        layers: Halvings of the image by the discriminator, at least 1: 2 for 64 pixels, 3 for 256.
        channels: Channels of the images.

    Raises:
        ValueError: A value out of its range; before training, images of other channels, or too
            small for the discriminator.

    References:
        P. Esser, R. Rombach, B. Ommer, 2021, arXiv 2012.09841, eq. 6 and 7 (the adaptive weight;
        there in the decoder's last layer); J. Lim, J. Ye, 2017, arXiv 1705.02894 (hinge).
    """

    ratio: Tensor

    def __init__(
        self,
        weight: float = 0.1,
        adaptive: bool = True,
        width: int = 64,
        layers: int = 2,
        channels: int = 3,
    ) -> None:
        super().__init__(weight)
        check_count("Adversarial.layers", layers, 1)
        check_count("Adversarial.channels", channels, 1)
        if width < 1 or width % _GROUP:
            raise ValueError(f"Adversarial.width must be a multiple of {_GROUP}; got {width}")
        self.adaptive, self.width, self.layers, self.channels = adaptive, width, layers, channels
        # The model's own weights are drawn as they are without it.
        with torch.random.fork_rng(devices=[]):
            self.discriminator = PatchDiscriminator(channels, width, layers)
        self.register_buffer("ratio", torch.tensor(1.0))

    def prepare(self, image_shape: tuple[int, int, int]) -> None:
        """Compare the images with what the discriminator takes; see `Penalty.prepare`."""
        channels, *size = image_shape
        if channels != self.channels:
            raise ValueError(
                f"Adversarial.channels must be {channels}, those of the images; got {self.channels}"
            )
        if min(size) < 2**self.layers:
            raise ValueError(
                f"Adversarial.layers must be at most log2 of {min(size)} pixels; got {self.layers}"
            )

    def forward(self, picture: Tensor, image: Tensor) -> Tensor:
        """Return minus the score; see `Penalty.forward`."""
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        return per_example(-functional_call(self.discriminator, fixed, (picture,)), image)

    def own_loss(self, picture: Tensor, image: Tensor) -> Tensor:
        """Return the hinge loss of the discriminator, ``()``."""
        scores = self.discriminator(torch.cat([image, picture]))
        real, fake = scores.to(torch.promote_types(scores.dtype, torch.float32)).chunk(2)
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def balance(self, rest: Tensor, value: Tensor, params: Tensor) -> Tensor | float:
        """Return the ratio of the gradients' norms; see `Penalty.balance`."""
        if not self.adaptive:
            return 1.0
        if torch.is_grad_enabled() and params.requires_grad:
            norms = [
                torch.autograd.grad(f.sum(), params, retain_graph=True)[0].norm()
                for f in (rest, value)
            ]
            ratio: Tensor = (norms[0] / (norms[1] + _TINY)).clamp(max=_MOST).detach()
            ratio = ratio.to(self.ratio.dtype)
            # Kept for calls without a gradient, unless the step is to be left out.
            self.ratio = torch.where(ratio.isfinite(), ratio, self.ratio)
            return ratio
        return self.ratio


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)
