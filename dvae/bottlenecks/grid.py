"""What bottlenecks share whose code is a grid of positions that all use one set of K codes."""

import torch
from torch import Tensor

from dvae.bottlenecks.base import Bottleneck
from dvae.functional import count_categories

__all__ = ["GridBottleneck", "count_levels"]


class GridBottleneck(Bottleneck):
    """A posterior over grids of integers, from a grid of features ``(B, in_features, H, W)``.

    A grid of signals or sequences has one axis, ``(T,)``, where ``(H, W)`` is said below.

    Attributes:
        num_codes: K.
        grid: Height and width, or the length of a grid of one axis, which the model sets from its
            network; ``()`` until then, and two axes are meant. Only what has no features to go by
            (samples of the prior, the number of states) needs it.
    """

    num_codes: int
    grid: tuple[int, ...] = ()

    @property
    def axes(self) -> int:
        """Number of axes of the grid."""
        return len(self.grid) or 2

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image.

        Raises:
            ValueError: The grid is not known.
        """
        if not self.grid:
            raise ValueError(
                f"{type(self).__name__} does not know its grid: set bottleneck.grid to the height "
                "and width of the code (a model does it)"
            )
        return self.grid

    def vectors(self) -> Tensor:
        """Return the vector of each code that the decoder sees, ``(books, K, D)``.

        There is one code book, or one for each integer of a position.
        """
        tensor = next(self.buffers())  # where the layer is
        codes = torch.arange(self.num_codes, device=tensor.device)
        return self.embed(codes.view(-1, *[1] * self.axes)).flatten(1).unsqueeze(0)

    def count(self, index: Tensor) -> Tensor:
        """Count each code, ``(K,)``."""
        return count_categories(index, self.num_codes)

    @property
    def num_states(self) -> int | None:
        """K to the power of the positions, or ``None`` while the grid is not known."""
        return super().num_states if self.grid else None


def count_levels(index: Tensor, levels: int, num_codes: int) -> Tensor:
    """Count the codes of positions that have several integers each.

    Args:
        index: Integers in [0, K), ``(..., levels)``; the last axis may be left out where it is 1.
        levels: Integers of a position, at least 1.
        num_codes: K.

    Returns:
        Integers ``(levels, K)``.
    """
    offset = torch.arange(levels, device=index.device) * num_codes
    counts = count_categories(index.reshape(-1, levels) + offset, levels * num_codes)
    return counts.view(levels, num_codes)
