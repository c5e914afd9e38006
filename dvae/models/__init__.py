"""Lightning modules: the models that are trained."""

from dvae.models.base import DiscreteVAE
from dvae.models.categorical_vae import CategoricalVAE
from dvae.models.evaluation import Evaluation

__all__ = ["CategoricalVAE", "DiscreteVAE", "Evaluation"]
