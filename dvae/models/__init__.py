"""Lightning modules: the models that are trained."""

from dvae.models.base import DiscreteVAE
from dvae.models.categorical_vae import CategoricalVAE
from dvae.models.evaluation import Evaluation
from dvae.models.objectives import ELBO, IWAE, Objective

__all__ = ["ELBO", "IWAE", "CategoricalVAE", "DiscreteVAE", "Evaluation", "Objective"]
