"""Encoder output to code: posteriors over discrete codes, each with its prior."""

from dvae.bottlenecks.base import Bottleneck, BottleneckOutput, Expectation
from dvae.bottlenecks.categorical import CategoricalBottleneck
from dvae.bottlenecks.codebook import CodebookBottleneck
from dvae.bottlenecks.distance_codebook import DistanceCodebook
from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.projected_codebook import ProjectedCodebook
from dvae.bottlenecks.upkeep import Upkeep

__all__ = [
    "Bottleneck",
    "BottleneckOutput",
    "CategoricalBottleneck",
    "CodebookBottleneck",
    "DistanceCodebook",
    "Expectation",
    "GridBottleneck",
    "ProjectedCodebook",
    "Upkeep",
]
