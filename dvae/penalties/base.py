"""What a penalty is: a term of the loss of a reconstruction, beside its likelihood."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dvae.described import Described
from dvae.devices import is_waited_for
from dvae.scalars import Range, register_scalar, settings_of

__all__ = ["Penalty"]


class Penalty(Described, nn.Module, ABC):
    """A number for each pair of images, taken off the log-likelihood; with it nothing is a bound.

    It has the unit of the likelihood, nats per example, as if it were a mean over pixels taken as
    many times as there are: one weight does for images of all sizes.

    Args:
        weight: Factor on it, at least 0; a buffer that `Anneal` may move, by the name of the class:
            ``perceptual.weight``.

    Raises:
        ValueError: ``weight`` is negative.
    """

    weight: Tensor

    def __init__(self, weight: float) -> None:
        super().__init__()
        register_scalar(self, "weight", weight, Range(0.0))

    def extra_repr(self) -> str:
        """Name the settings."""
        return settings_of(self)

    @property
    def is_idle(self) -> bool:
        """Whether the weight is 0, where to look at it makes nobody wait."""
        return not is_waited_for(self.weight) and not self.weight

    def prepare(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse what cannot be trained with, before training starts.

        Args:
            image_shape: Channels, height and width.

        Raises:
            ValueError: The images are none for it.
            MissingExtra: It needs a package that is not installed.
        """

    @abstractmethod
    def forward(self, picture: Tensor, image: Tensor) -> Tensor:
        """Compare reconstructions with images; no gradient goes to parameters of its own.

        Args:
            picture: Reconstructions in [0, 1], ``(N, C, H, W)``, in float32 or wider.
            image: The images, of the same shape.

        Returns:
            Nats per example, ``(N,)``.
        """

    def own_loss(self, picture: Tensor, image: Tensor) -> Tensor | None:
        """Return the loss of parameters of its own, ``()``; ``None`` where there are none.

        Args:
            picture: As in `forward`, without a gradient.
            image: As in `forward`.
        """
        return None

    def balance(self, rest: Tensor, value: Tensor, params: Tensor) -> Tensor | float:
        """Return a factor on the weight, which a batch may call for; 1 by default.

        Args:
            rest: What is maximised without it, ``(S, B)``, a function of ``params``.
            value: What `forward` returned, ``(S, B)``, likewise.
            params: Decoder output ``(S, B, ...)`` in float32 or wider.
        """
        return 1.0

    def idle_loss(self) -> Tensor | float:
        """Return 0 with a gradient of 0 for parameters of its own, as several processes want it."""
        return sum((0.0 * p.sum() for p in self.parameters() if p.requires_grad), 0.0)


def per_example(values: Tensor, image: Tensor) -> Tensor:
    """Take the mean of values over positions as many times as an image has numbers.

    Args:
        values: ``(N, ...)``.
        image: ``(N, C, H, W)``.

    Returns:
        ``(N,)``, in float32 or wider.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.to(dtype).flatten(1).mean(1) * image[0].numel()
