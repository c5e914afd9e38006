"""Likelihoods: log p(x | decoder output), a density or mass over pixels, in nats per example."""

from dvae.likelihoods.base import LEVELS, Likelihood
from dvae.likelihoods.bernoulli import Bernoulli
from dvae.likelihoods.discretized_logistic import DiscretizedLogisticMixture
from dvae.likelihoods.gaussian import Gaussian, LearnedGaussian, OptimalGaussian
from dvae.likelihoods.laplace import Laplace
from dvae.likelihoods.logit_laplace import LogitLaplace

__all__ = [
    "LEVELS",
    "Bernoulli",
    "DiscretizedLogisticMixture",
    "Gaussian",
    "Laplace",
    "LearnedGaussian",
    "Likelihood",
    "LogitLaplace",
    "OptimalGaussian",
]
