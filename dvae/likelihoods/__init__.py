"""Likelihoods: log p(x | decoder output), a density or a mass, in nats per example."""

from typing import TYPE_CHECKING

from dvae.likelihoods.base import LEVELS as LEVELS
from dvae.likelihoods.base import Likelihood as Likelihood
from dvae.names import gather

LIKELIHOODS: dict[str, type[Likelihood]] = gather(__name__, Likelihood)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.likelihoods.bernoulli import *
    from dvae.likelihoods.categorical import *
    from dvae.likelihoods.discretized_logistic import *
    from dvae.likelihoods.gaussian import *
    from dvae.likelihoods.gaussian_vector import *
    from dvae.likelihoods.laplace import *
    from dvae.likelihoods.logit_laplace import *
else:
    globals().update(LIKELIHOODS)
    __all__ = ["LEVELS", "Likelihood", *LIKELIHOODS]
