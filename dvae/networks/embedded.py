"""An embedding of categories in front of another network: letters, tokens, classes."""

from dataclasses import dataclass

from torch import Tensor, nn

from dvae.networks.base import Network

__all__ = ["Embedded"]


@dataclass(frozen=True)
class Embedded(Network):
    """A network for sequences of categories, from one for signals of as many steps.

    Each category is a vector, as long as the inner network's signals have channels, and the vectors
    of a sequence are its signal. The decoder's signal becomes logits by one linear map, the same at
    each place.

    Args:
        network: Network for signals ``(C, T)``: `MLP`, or with a grid `ResNet1d`.
        categories: Number of categories V, that of the `Categorical` likelihood, at least 2.

    Raises:
        ValueError: The inner network is not one for signals, or ``categories`` is below 2.

    Example:
        >>> import torch
        >>> from dvae.networks.resnet1d import ResNet1d
        >>> net = Embedded(ResNet1d((8, 16), width=8), categories=5)
        >>> net.event_shape, net.grid
        ((16,), (4,))
        >>> net.encoder(3)(torch.zeros(2, 16).long()).shape
        torch.Size([2, 3, 4])
        >>> net.decoder(3, 5)(torch.zeros(2, 3, 4)).shape
        torch.Size([2, 80])
    """

    network: Network
    categories: int = 27

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.network.event_shape) != 2:
            raise ValueError(
                "Embedded.network must be for signals of channels and steps; got event_shape "
                f"{list(self.network.event_shape)}"
            )
        if self.categories < 2:
            raise ValueError(f"Embedded.categories must be >= 2; got {self.categories}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Number of steps, ``(T,)``."""
        return self.network.event_shape[1:]

    @property
    def grid(self) -> tuple[int, ...]:
        """That of the inner network."""
        return self.network.grid

    def encoder(self, out_features: int) -> nn.Module:
        """Build integers ``(B, T)`` to ``(B, out_features, *grid)``."""
        embedding = nn.Embedding(self.categories, self.network.event_shape[0])
        return nn.Sequential(embedding, _ChannelsFirst(), self.network.encoder(out_features))

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build codes to logits ``(B, params_per_channel * T)``, those of a category together.

        Raises:
            ValueError: The likelihood has another number of categories.
        """
        if params_per_channel != self.categories:
            raise ValueError(
                f"Embedded.categories must be that of the likelihood, {params_per_channel}; got "
                f"{self.categories}"
            )
        logits = nn.Conv1d(self.network.event_shape[0], self.categories, 1)
        return nn.Sequential(self.network.decoder(in_features, 1), logits, nn.Flatten(1))


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT
