"""Encoders and decoders, built in pairs."""

from dvae.networks.base import Network
from dvae.networks.conv import ConvNetwork
from dvae.networks.dalle import DALLENet
from dvae.networks.embedded import Embedded
from dvae.networks.mlp import MLP
from dvae.networks.resnet import ResNet
from dvae.networks.resnet1d import ResNet1d
from dvae.networks.vqvae import VQVAENet

__all__ = [
    "MLP",
    "ConvNetwork",
    "DALLENet",
    "Embedded",
    "Network",
    "ResNet",
    "ResNet1d",
    "VQVAENet",
]
