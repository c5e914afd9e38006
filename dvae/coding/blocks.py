"""What pushes and pops a block of images, with the same probabilities at both ends."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from dvae.coding.ans import LARGEST, Stack
from dvae.models import DiscreteVAE
from dvae.models.weights import digest

__all__ = ["BlockCoder", "exact", "one_thread"]

# Images of a block, and numbers of a table of probabilities or of an image's features, at most.
# Both ends cut images into blocks by them: who changes them changes the format.
_IMAGES, _NUMBERS, _FEATURES = 256, 2**22, 16

M = TypeVar("M", bound=tuple[nn.Module, ...])


class BlockCoder(ABC):
    """Pushes blocks of images onto a stack, and pops them.

    Args:
        model: Trained model.

    Attributes:
        rows: Images of a full block.
        weights: SHA-256 of the model's weights, 32 bytes.
        initial: Words that the stack begins with.

    Raises:
        ValueError: The model has too many categories.
    """

    initial: int

    def __init__(self, model: DiscreteVAE) -> None:
        if model.num_codes > LARGEST:
            raise ValueError(f"at most {LARGEST} categories can be coded; got {model.num_codes}")
        state = model.state_dict()
        self.weights = bytes.fromhex(digest([state[name] for name in sorted(state)]))
        self._model = model
        codes = torch.Size(model.index_shape).numel() * model.num_codes
        levels = max(_FEATURES, model.likelihood.levels)
        pixels = torch.Size(model.image_shape).numel() * levels
        self.rows = min(_IMAGES, max(1, _NUMBERS // max(codes, pixels)))

    @abstractmethod
    def blocks(self, count: int) -> list[slice]:
        """Cut images into blocks; the last one is pushed first, and the first one popped first.

        Args:
            count: Number of images.
        """

    @abstractmethod
    def push(self, stack: Stack, image: Tensor) -> Tensor:
        """Push a block.

        Args:
            stack: Where to.
            image: Pixels in [0, 1], ``(B, C, H, W)``.

        Returns:
            Integers that `pop` will find.

        Raises:
            ValueError: These pixels cannot be coded.
        """

    @abstractmethod
    def pop(self, stack: Stack, count: int) -> tuple[Tensor, Tensor]:
        """Pop a block.

        Args:
            stack: Where from.
            count: Images B of the block.

        Returns:
            The integers that `push` returned, and pixels in [0, 1], ``(B, C, H, W)``.
        """


def exact(parts: M) -> M:
    """Copy modules to the CPU, in float64 and evaluation mode, for probabilities.

    Args:
        parts: The modules.
    """
    copies = deepcopy(parts)
    for part in copies:
        part.cpu().double().eval()
    return copies


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread for a while: several may add numbers up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)
