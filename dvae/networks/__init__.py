"""Encoders and decoders, built in pairs."""

from dvae.networks.base import Network
from dvae.networks.mlp import MLP

__all__ = ["MLP", "Network"]
