"""Encoder output to code: posteriors over discrete codes, each with its prior."""

from dvae.bottlenecks.base import Bottleneck, BottleneckOutput, Expectation
from dvae.bottlenecks.categorical import CategoricalBottleneck
from dvae.bottlenecks.codebook import CodebookBottleneck
from dvae.bottlenecks.distance_codebook import DistanceCodebook
from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.projected_codebook import ProjectedCodebook
from dvae.bottlenecks.quantizer import Quantizer
from dvae.bottlenecks.quantizers import FSQ, LFQ, VQ, ResidualVQ, RotationVQ, SimVQ
from dvae.bottlenecks.upkeep import Upkeep

__all__ = [
    "FSQ",
    "LFQ",
    "VQ",
    "Bottleneck",
    "BottleneckOutput",
    "CategoricalBottleneck",
    "CodebookBottleneck",
    "DistanceCodebook",
    "Expectation",
    "GridBottleneck",
    "ProjectedCodebook",
    "Quantizer",
    "ResidualVQ",
    "RotationVQ",
    "SimVQ",
    "Upkeep",
]
