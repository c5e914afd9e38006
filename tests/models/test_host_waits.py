"""No part of a training step waits for the device, whatever the model is made of."""

import pytest
import torch

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.estimators import VIMCO, GumbelSoftmax, PathwiseEstimator, ReinMax, StraightThrough
from dvae.likelihoods import (
    Bernoulli,
    DiscretizedLogisticMixture,
    Gaussian,
    Laplace,
    LearnedGaussian,
    LogitLaplace,
    OptimalGaussian,
)
from dvae.models import ELBO, IWAE, CategoricalVAE, CodebookVAE
from dvae.networks import MLP, ResNet
from dvae.priors import PRIORS
from tests.estimators.catalogue import everything, name
from tests.fake_device import FAKE, FakeDevice
from tests.posteriors import objective_of

SHAPE = (1, 6, 6)
LATENTS, CODES = 3, 4
UPKEEP = Upkeep(kmeans=0)


def waits_of(model, steps=2, skipped=1):
    """Train on the fake device; return the waits of all steps but the first ones."""
    model.to(FAKE).train()
    # One that exists for this device; torch's own fused ones do not wait either.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    image = torch.rand(2, *SHAPE, device=FAKE)
    with FakeDevice() as device:
        for step in range(steps):
            device.resting = step < skipped
            with model.bottleneck.accumulating():
                out = objective_of(model, image)
            optimizer.zero_grad()
            out.loss.backward()
            model.on_before_optimizer_step(optimizer)
            optimizer.step()
    return device.waits


def categorical(estimator, likelihood=None, objective=None, codes=CODES, **kwargs):
    return CategoricalVAE(
        MLP(SHAPE, hidden=(8,)),
        CategoricalBottleneck(LATENTS, codes, estimator, **kwargs),
        likelihood or Bernoulli(),
        objective,
    )


def bounded(estimator):
    return isinstance(estimator, (PathwiseEstimator, VIMCO))


def grid(bottleneck, objective=None, prior=None):
    network = ResNet(SHAPE, width=8, halvings=1, blocks=1)
    return CodebookVAE(network, bottleneck, Gaussian(), objective, prior=prior)


@pytest.mark.parametrize(("codes", "samples"), [(2, 1), (CODES, 3)])
def test_no_estimator_waits(codes, samples):
    for estimator in everything(LATENTS, codes):
        model = categorical(estimator, objective=ELBO(samples=samples), codes=codes)
        assert not waits_of(model), name(estimator)


def test_no_estimator_of_the_bound_of_several_samples_waits():
    for estimator in everything(LATENTS, CODES):
        if bounded(estimator):
            assert not waits_of(categorical(estimator, objective=IWAE(3))), name(estimator)


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(),
        DiscretizedLogisticMixture(2),
        Gaussian(),
        Laplace(),
        LearnedGaussian(),
        LogitLaplace(),
        OptimalGaussian(),
    ],
    ids=lambda x: type(x).__name__,
)
def test_no_likelihood_waits(likelihood):
    assert not waits_of(categorical(GumbelSoftmax(), likelihood))


BOTTLENECKS = {
    "projected": lambda: ProjectedCodebook(8, 4, 4, upkeep=UPKEEP, kernel="plain"),
    "blocked": lambda: ProjectedCodebook(8, 4, 4, None, False, UPKEEP, "blocked"),
    "blocked, relaxed": lambda: ProjectedCodebook(
        8, 4, 4, GumbelSoftmax(0.7), False, UPKEEP, "blocked"
    ),
    "blocked, straight-through": lambda: ProjectedCodebook(
        8, 4, 4, StraightThrough(), False, UPKEEP, "blocked"
    ),
    "blocked, ReinMax": lambda: ProjectedCodebook(8, 4, 4, ReinMax(), False, UPKEEP, "blocked"),
    "distance": lambda: DistanceCodebook(8, 4, upkeep=UPKEEP),
    "distance, VIMCO": lambda: DistanceCodebook(8, 4, VIMCO(), upkeep=UPKEEP),
    "residual code": lambda: ResidualCodebook(8, 4, 2, upkeep=UPKEEP),
    "VQ": lambda: VQ(8, 4, upkeep=UPKEEP),
    "RotationVQ": lambda: RotationVQ(8, 4, upkeep=UPKEEP),
    "DiVeQ": lambda: DiVeQ(8, 4, upkeep=UPKEEP),
    "SimVQ": lambda: SimVQ(8, 4),
    "FSQ": lambda: FSQ([3, 3], 4),
    "LFQ": lambda: LFQ(8, 4),
    "ResidualVQ": lambda: ResidualVQ(8, 4, 2, upkeep=UPKEEP),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("bottleneck", ["projected", "blocked", "VQ"])
def test_no_prior_waits(bottleneck, prior):
    model = grid(BOTTLENECKS[bottleneck](), prior=PRIORS[prior]())
    assert not waits_of(model)


@pytest.mark.parametrize("samples", ["1", "3", "bound of 3"])
@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_no_bottleneck_waits(bottleneck, samples):
    made = BOTTLENECKS[bottleneck]()
    # The bound itself is looked at, which training refuses where it would drop an auxiliary loss.
    made.has_loss = made.has_loss and samples != "bound of 3"
    objective = IWAE(3) if samples == "bound of 3" else ELBO(samples=int(samples))
    assert not waits_of(grid(made, objective))
