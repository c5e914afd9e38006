"""What tests of bottlenecks ask of a posterior, in a line each."""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from dvae.models.evaluation import bounds
from dvae.priors import (
    AutoregressivePrior,
    CategoricalPrior,
    MADEPrior,
    MaskedPrior,
    UniformPrior,
)

# Of codes of several integers at each position, one of each kind that learns.
PRIORS = {
    "categorical": CategoricalPrior,
    "MADE": lambda: MADEPrior(4),
    "autoregressive": lambda: AutoregressivePrior(8, 1, 2),
    "masked": lambda: MaskedPrior(8, 1, 2, steps=2),
}


@dataclass
class Expected:
    """An expectation, the KL to the prior and the auxiliary loss, ``(B,)`` each."""

    value: Tensor
    kl: Tensor
    loss: Tensor


@contextmanager
def evaluating(bottleneck):
    modes = [(module, module.training) for module in bottleneck.modules()]
    bottleneck.eval()
    yield
    for module, training in modes:
        module.training = training


def look(bottleneck, features, prior=None):
    """Make the posterior as in evaluation, whatever the mode."""
    with evaluating(bottleneck):
        return bottleneck(features, prior)


def uniform(bottleneck, shape=None):
    prior = UniformPrior()
    prior.build(bottleneck.index_shape if shape is None else shape, bottleneck.counts_shape)
    return prior.to(next((p.dtype for p in bottleneck.parameters()), torch.float32))


def priced(prior, bottleneck):
    """Build a prior for the code of a bottleneck."""
    prior.build(bottleneck.index_shape, bottleneck.counts_shape)
    return prior


def expectation(bottleneck, f, features, generator=None, prior=None):
    """Take the expectation of a function of decoder inputs, in the bottleneck's mode."""
    q = bottleneck(features, prior)
    value = q.expectation(lambda z, _: f(z), generator)
    prior = (
        uniform(bottleneck, tuple(q.mode().shape[1:])).to(value.dtype) if prior is None else prior
    )
    loss = torch.zeros_like(value) if q.loss is None else q.loss
    return Expected(value, prior.closed_kl(q), loss)


def kl(bottleneck, features, prior=None):
    q = look(bottleneck, features, prior)
    return (uniform(bottleneck, tuple(q.mode().shape[1:])) if prior is None else prior).closed_kl(q)


def objective_of(model, image, features=None, objective=None):
    """Evaluate the objective of a model, at given features of the images if there are any."""
    q = model.bottleneck(model.encoder(image) if features is None else features, model.prior)
    objective = model.objective if objective is None else objective
    return objective(lambda z: model.log_px(z, image), q, model.prior)


def bounds_of(model, image, features, samples, chunk=8192, generator=None):
    """Evaluate the bounds at exact draws."""
    q = model.bottleneck(features, model.prior)
    generator = torch.Generator() if generator is None else generator
    return bounds(image, q, q.sample(samples, generator), model, chunk)


def spoken(prior, bottleneck):
    """Fit a prior to the code, and give it something to say."""
    prior = priced(prior, bottleneck)
    with torch.no_grad():
        for weight in prior.parameters():
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
            weight.add_(noise, alpha=0.3)
    return prior.eval()
