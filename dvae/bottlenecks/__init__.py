"""Encoder output to code: posteriors over discrete codes, each with its prior."""

from dvae.bottlenecks.base import Bottleneck, BottleneckOutput, Expectation
from dvae.bottlenecks.categorical import CategoricalBottleneck

__all__ = ["Bottleneck", "BottleneckOutput", "CategoricalBottleneck", "Expectation"]
