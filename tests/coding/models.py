"""Models with random weights whose parts say something, and images for them."""

from functools import partial

import torch

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    SimVQ,
)
from dvae.likelihoods import DiscretizedLogisticMixture
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.networks import MLP, ResNet
from dvae.priors import PRIORS, AutoregressivePrior, MADEPrior, MaskedPrior

SMALL = {
    "AutoregressivePrior": partial(AutoregressivePrior, 8, 1, 2),
    "MADEPrior": partial(MADEPrior, 4),
    "MaskedPrior": partial(MaskedPrior, 8, 1, 2, steps=3),
}
MAKERS = {name: SMALL.get(name, cls) for name, cls in PRIORS.items()}
BOTTLENECKS = {
    "ProjectedCodebook": lambda: ProjectedCodebook(16, 4),
    "ProductCodebook": lambda: ProductCodebook(8, 4),
    "DistanceCodebook": lambda: DistanceCodebook(8, 4),
    "ResidualCodebook": lambda: ResidualCodebook(8, 4, 2),
    "VQ": lambda: VQ(8, 4),
    "DiVeQ": lambda: DiVeQ(8, 4),
    "FSQ": lambda: FSQ([4, 3], 4),
    "LFQ": lambda: LFQ(8, 4),
    "SimVQ": lambda: SimVQ(8, 4),
    "ResidualVQ": lambda: ResidualVQ(8, 4, 3),
}


def spoken(model, seed=0):
    """Give weights that are not those of a start, at which priors and likelihoods are flat."""
    generator = torch.Generator().manual_seed(seed)
    for part in (model.prior, model.decoder):
        for weight in part.parameters():
            weight.data.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
    return model


def latents(prior="UniformPrior", seed=0):
    """Six latents of five categories, for black-or-white images of 6 by 6."""
    torch.manual_seed(seed)
    network, bottleneck = MLP((1, 6, 6), hidden=(16,)), CategoricalBottleneck(6, 5)
    return spoken(CategoricalVAE(network, bottleneck, prior=MAKERS[prior]()), seed)


def grid(bottleneck="ProjectedCodebook", prior="UniformPrior", channels=3):
    """A grid of 2 by 2 codes, for images of 8 by 8 in 256 levels."""
    torch.manual_seed(0)
    network = ResNet((channels, 8, 8), width=8, blocks=1)
    likelihood, prior = DiscretizedLogisticMixture(2), MAKERS[prior]()
    return spoken(CodebookVAE(network, BOTTLENECKS[bottleneck](), likelihood, prior=prior))


def images(model, count, seed=1):
    """Return random images as the likelihood weighs them, of another brightness each."""
    generator = torch.Generator().manual_seed(seed)
    values, levels = torch.rand(count, 1, 1, 1, generator=generator), model.likelihood.levels
    noise = torch.rand(count, *model.image_shape, generator=generator)
    if levels == 2:
        return (noise < values).float()
    return ((values + 0.2 * noise).clamp(0, 1) * 255).round().to(torch.uint8)
