"""What a network is: a recipe that builds an encoder and the decoder that mirrors it."""

from abc import ABC, abstractmethod

from torch import nn

__all__ = ["Network"]


class Network(ABC):
    """A recipe for an encoder and a decoder; subclasses are frozen dataclasses.

    The widths at the bottleneck are not its business: the model asks for them.
    """

    image_shape: tuple[int, int, int]
    """Channels, height and width, where the events are images."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of an event; a network for others than images has it in place of `image_shape`."""
        return self.image_shape

    @property
    def grid(self) -> tuple[int, ...]:
        """Axes of the grid of features, as height and width; ``()`` where they are one vector."""
        return ()

    @abstractmethod
    def encoder(self, out_features: int) -> nn.Module:
        """Build a module from events ``(B, *event_shape)`` to ``(B, out_features, *grid)``."""

    @abstractmethod
    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build a module from codes to parameters: ``(B, params_per_channel * C, H, W)`` of images.

        Of other events the first axis takes the place of the channels.
        """
