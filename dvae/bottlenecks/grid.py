"""What bottlenecks share whose code is a grid of positions that all use one set of K codes."""

import math
from abc import abstractmethod

import torch
from torch import Generator, Tensor

from dvae.bottlenecks.base import Bottleneck
from dvae.functional import count_categories

__all__ = ["GridBottleneck"]


class GridBottleneck(Bottleneck):
    """A posterior over grids of integers, from a grid of features ``(B, in_features, H, W)``.

    Attributes:
        num_codes: K.
        grid: Height and width, which the model sets from its network; ``()`` until then. Only
            what has no features to go by (samples of the prior, the number of states) needs it.
    """

    num_codes: int
    grid: tuple[int, ...] = ()

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

    @property
    @abstractmethod
    def log_prior_probs(self) -> Tensor:
        """Log-probability of each code, ``(K,)``, the same at every position."""

    def vectors(self) -> Tensor:
        """Return the vector of each code that the decoder sees, ``(books, K, D)``.

        There is one code book, or one for each integer of a position.
        """
        codes = torch.arange(self.num_codes, device=self.log_prior_probs.device)
        return self.embed(codes.view(-1, 1, 1)).flatten(1).unsqueeze(0)

    def log_prior(self, index: Tensor) -> Tensor:
        """Sum log p over the positions; see `Bottleneck.log_prior`."""
        return self.log_prior_probs[index].flatten(1).sum(1)

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw each position from the prior, ``(count, *index_shape)``."""
        # One uniform number a position and not K of Gumbel noise: a grid has many positions.
        cdf = self.log_prior_probs.detach().double().softmax(0).cumsum(0)
        shape = (count, *self.index_shape)
        uniform = torch.rand(shape, generator=generator, dtype=cdf.dtype, device=cdf.device)
        return torch.searchsorted(cdf, uniform).clamp_max(self.num_codes - 1)

    def count(self, index: Tensor) -> Tensor:
        """Count each code, ``(K,)``."""
        return count_categories(index, self.num_codes)

    @property
    def num_states(self) -> int | None:
        """K to the power of the positions, or ``None`` while the grid is not known."""
        return int(self.num_codes ** math.prod(self.index_shape)) if self.grid else None

    def states(self, start: int, stop: int) -> Tensor:
        """Write the state numbers in base K, one digit a position, ``(N, *index_shape)``.

        Raises:
            ValueError: There are too many states for 64-bit numbers.
        """
        if self.num_codes ** math.prod(self.index_shape) > 2**62:
            raise ValueError("there are too many codes to number them")
        device = self.log_prior_probs.device
        number = torch.arange(start, stop, device=device).unsqueeze(1)
        powers = self.num_codes ** torch.arange(math.prod(self.index_shape), device=device)
        digits = number // powers % self.num_codes
        return digits.view(-1, *self.index_shape)
