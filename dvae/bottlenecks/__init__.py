"""Encoder features in, posteriors over discrete codes out."""

from dvae.bottlenecks.base import Bottleneck
from dvae.bottlenecks.categorical import CategoricalBottleneck
from dvae.bottlenecks.codebook import CodebookBottleneck
from dvae.bottlenecks.distance_codebook import DistanceCodebook
from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.posterior import CategoricalPosterior, CodeDraw, PointPosterior, Posterior
from dvae.bottlenecks.product_codebook import ProductCodebook
from dvae.bottlenecks.projected_codebook import ProjectedCodebook
from dvae.bottlenecks.quantizer import Quantizer
from dvae.bottlenecks.quantizers import FSQ, LFQ, VQ, DiVeQ, ResidualVQ, RotationVQ, SimVQ
from dvae.bottlenecks.residual_codebook import ResidualCodebook
from dvae.bottlenecks.residual_posterior import ResidualPosterior
from dvae.bottlenecks.upkeep import Upkeep

__all__ = [
    "FSQ",
    "LFQ",
    "VQ",
    "Bottleneck",
    "CategoricalBottleneck",
    "CategoricalPosterior",
    "CodeDraw",
    "CodebookBottleneck",
    "DiVeQ",
    "DistanceCodebook",
    "GridBottleneck",
    "PointPosterior",
    "Posterior",
    "ProductCodebook",
    "ProjectedCodebook",
    "Quantizer",
    "ResidualCodebook",
    "ResidualPosterior",
    "ResidualVQ",
    "RotationVQ",
    "SimVQ",
    "Upkeep",
]
