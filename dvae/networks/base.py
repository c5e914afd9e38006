"""What a network is: a recipe that builds an encoder and the decoder that mirrors it."""

from abc import ABC, abstractmethod

from torch import nn

__all__ = ["Network"]


class Network(ABC):
    """A recipe for an encoder and a decoder; subclasses are frozen dataclasses.

    The widths at the bottleneck are not its business: the model asks for them.
    """

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Height and width of the grid of features; ``()`` where the features are one vector."""
        return ()

    @abstractmethod
    def encoder(self, out_features: int) -> nn.Module:
        """Build a module from images ``(B, C, H, W)`` to features ``(B, out_features, ...)``."""

    @abstractmethod
    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build a module from codes to parameters ``(B, params_per_channel * C, H, W)``."""
