"""What a bottleneck is: encoder features in, a posterior over discrete codes out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dvae.bottlenecks.posterior import Posterior
from dvae.described import Described
from dvae.priors.base import Prior
from dvae.stepwise import Stepwise

__all__ = ["Bottleneck", "refuse_prior"]


class Bottleneck(Described, Stepwise, nn.Module, ABC):
    """Makes the discrete posterior q(z | features) of a batch, and decoder inputs of codes.

    Attributes:
        in_features: Features (or channels of a grid) that it wants from the encoder.
        code_features: Features (or channels of a grid) that it gives to the decoder.
        counts_shape: Shape of the usage counts, ``(L, K)`` or ``(K,)``.
        has_posterior: Whether q gives probability to more than one code. Where it does not, its
            entropy and log q(z | x) say nothing.
        has_loss: Whether an auxiliary loss comes with the code, which training has to add.
    """

    in_features: int
    code_features: int
    counts_shape: tuple[int, ...]
    has_posterior: bool = True
    has_loss: bool = False

    @abstractmethod
    def forward(self, features: Tensor, prior: Prior | None = None) -> Posterior:
        """Make the posterior of a batch; in training, start, revive and count codes as well.

        Args:
            features: Encoder output ``(B, in_features, ...)``.
            prior: The prior that q will be held against: a fused posterior finds its KL in the
                sweep that draws, and revived codes become probable under it. Uniform by default.
        """

    @abstractmethod
    def embed(self, index: Tensor) -> Tensor:
        """Turn integers ``(..., *positions)`` into the decoder's input ``(..., *z)``."""

    @abstractmethod
    def count(self, index: Tensor) -> Tensor:
        """Count the use of each code in ``index (B, ...)``: integers of ``counts_shape``."""

    @property
    @abstractmethod
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image."""

    @property
    def num_states(self) -> int | None:
        """Number of codes of a whole image, or ``None`` where it depends on the image size."""
        return int(self.counts_shape[-1] ** math.prod(self.index_shape))

    def states(self, start: int, stop: int) -> Tensor:
        """Write the state numbers ``start`` to ``stop - 1`` in base K, one digit a position.

        Returns:
            Integers ``(N, *index_shape)``, on the CPU.

        Raises:
            ValueError: There are too many states for 64-bit numbers.
        """
        codes, positions = self.counts_shape[-1], math.prod(self.index_shape)
        if codes**positions > 2**62:
            raise ValueError("there are too many codes to number them")
        number = torch.arange(start, stop).unsqueeze(1)
        digits = number // codes ** torch.arange(positions) % codes
        return digits.view(-1, *self.index_shape)

    def take_moved(self) -> list[tuple[Tensor, Tensor]]:
        """Return the parameters that were written to in training since this was last asked.

        What an optimizer remembers of their gradients belongs to the old values, and has to be
        forgotten before its next step.

        Returns:
            Pairs of a parameter and booleans over its first axis: which rows are new. None by
            default.
        """
        return []


def refuse_prior(name: str, value: Any) -> None:
    """Refuse a prior that was asked of a bottleneck; what had none goes on.

    Args:
        name: Name of the argument.
        value: Its value.

    Raises:
        ValueError: A prior was asked for; the message says what to write.
    """
    if value:
        given = value if isinstance(value, Sequence) else None
        settings = f", init_args: {{probs: {list(given)}}}" if given else ""
        raise ValueError(
            f"{name} is the model's prior now: write model.prior: {{class_path: CategoricalPrior"
            f"{settings}}} (in Python prior=CategoricalPrior({list(given) if given else ''}))"
        )
