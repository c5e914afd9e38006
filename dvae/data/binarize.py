r"""The protocols that turn grayscale images into binary ones.

A grayscale pixel is read as the probability of a one, \(x \sim \text{Bernoulli}(p / 255)\).
Likelihoods under different protocols are likelihoods of different data and must not be compared.

References:
    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, ICML:
    binary images drawn from the grayscale ones.
    Burda, Grosse and Salakhutdinov (2016), arXiv 1509.00519, section 5: training images drawn
    anew at every visit against a binarisation fixed for the whole of training, and how much more
    the fixed one overfits.
"""

from typing import Literal

import torch
from torch import Tensor

from dvae.data.seeding import seeded_generator

__all__ = ["Binarization", "binarize_once", "draw", "treatment"]

Binarization = Literal["none", "dynamic", "fixed", "threshold"]
"""How pixels become binary.

`none`: they do not, the grayscale values in [0, 1] are the targets. `fixed`: every image is drawn
once. `dynamic`: training images are drawn anew at every visit, all others once as in `fixed`, so
that evaluating twice gives the same number. `threshold`: a pixel above 127 is a one.
"""

# Images drawn at a time: bounds the extra memory to a few megabytes.
_CHUNK = 8192


def draw(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw binary pixels, \(x \sim \text{Bernoulli}(p / 255)\).

    Args:
        images: Grayscale pixels, any shape, uint8 in 0..255.
        generator: Where the noise comes from, on the device of `images`; torch's global generator
            of that device if None.

    Returns:
        Ones and zeros, the shape of `images`, bool.
    """
    # P(uniform on 0..254 < p) is p / 255, with 0 and 255 certain; one byte of noise a pixel takes
    # a third of the time of torch.bernoulli on the CPU.
    return torch.empty_like(images).random_(0, 255, generator=generator) < images


def binarize_once(images: Tensor, binarization: Binarization, split: str) -> Tensor:
    """Binarise a whole set for good.

    The draw depends on nothing but the images and the name of the split: not on the run's seed, the
    batch size or the number of processes. So all runs are evaluated on the same binary images.

    Args:
        images: A whole split, shape (N, C, H, W), uint8 in 0..255, on the CPU.
        binarization: The protocol; `dynamic` draws once here, as `fixed` does.
        split: Name of the split, which seeds the draw.

    Returns:
        Shape (N, C, H, W), uint8: 0 or 255, or `images` themselves where `binarization` is `none`.
    """
    if binarization == "none":
        return images
    if binarization == "threshold":
        return (images > 127).to(torch.uint8).mul_(255)
    generator = seeded_generator(f"binarisation of the {split} split")
    out = torch.empty_like(images)
    for source, target in zip(torch.split(images, _CHUNK), torch.split(out, _CHUNK), strict=True):
        target.copy_(draw(source, generator))
    return out.mul_(255)


def treatment(binarization: Binarization, grayscale: bool) -> str:
    """Say how the pixels are treated, for people and for tables of results.

    Args:
        binarization: The protocol.
        grayscale: Whether the images have one channel.
    """
    return {
        "none": "grayscale (pixels in [0, 1], not binarised)" if grayscale else "colour",
        "dynamic": "dynamic binarisation",
        "fixed": "fixed binarisation (every image drawn once)",
        "threshold": "binarised at a threshold (pixel > 127)",
    }[binarization]
