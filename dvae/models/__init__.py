"""Lightning modules: the models that are trained."""

from dvae.models.base import DiscreteVAE
from dvae.models.categorical_vae import CategoricalVAE
from dvae.models.codebook_vae import CodebookVAE
from dvae.models.evaluation import Evaluation
from dvae.models.objectives import ELBO, IWAE, Objective, PriorLikelihood
from dvae.models.penalised import PenalisedELBO

__all__ = [
    "ELBO",
    "IWAE",
    "CategoricalVAE",
    "CodebookVAE",
    "DiscreteVAE",
    "Evaluation",
    "Objective",
    "PenalisedELBO",
    "PriorLikelihood",
]
