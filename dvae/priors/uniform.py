"""All codes equally probable."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dvae.priors.base import FactorisedPrior

__all__ = ["UniformPrior"]


class UniformPrior(FactorisedPrior):
    r"""The uniform distribution over codes, :math:`\log p(z) = -n \log K` for n positions.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, section 4.2.

    Example:
        >>> prior = UniformPrior()
        >>> prior.build((4,), (4, 10))
        >>> prior.sample(2).shape
        torch.Size([2, 4])
    """

    table: Tensor

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; see `Prior.build`."""
        super().build(index_shape, counts_shape)
        # Written down, and not made by a softmax, whose rounding would be summed over positions.
        self.register_buffer("table", torch.full((self.num_codes,), -math.log(self.num_codes)))

    @property
    def log_probs(self) -> Tensor:
        """Minus log K, ``(K,)``."""
        return self.table
