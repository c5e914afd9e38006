"""What a prior is: the distribution of a model's codes, and its part in the bound."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

if TYPE_CHECKING:
    from dvae.bottlenecks.posterior import Posterior

__all__ = ["FactorisedPrior", "Prior"]


class Prior(nn.Module, ABC):
    r"""p(z), a part of the model as the likelihood is.

    Where its KL has no closed form, the bound is

    .. math:: E_q[\log p(x|z) + \beta \log p(z)] + \beta H(q)

    with the exact entropy, and the prior inside the function whose expectation the estimator takes:
    so every estimator trains every prior by the same step.

    Attributes:
        index_shape: Shape of the integers of one image, ``(L,)`` or that of the grid.
        num_codes: Categories K of each integer.
    """

    index_shape: tuple[int, ...] = ()
    num_codes: int = 0

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; the model does it, once.

        Args:
            index_shape: Shape of the integers of one image.
            counts_shape: ``(K,)`` where all positions use one set of codes, ``(L, K)`` where each
                has its own; K last.

        Raises:
            ValueError: The prior is that of another model, or cannot be one of these codes.
        """
        if self.num_codes:
            raise ValueError(
                f"{type(self).__name__} is part of another model already: give each its own"
            )
        self.index_shape, self.num_codes = tuple(index_shape), counts_shape[-1]

    @abstractmethod
    def log_prob(self, code: Tensor) -> Tensor:
        """Return log p(z), nats per example.

        Args:
            code: Integers ``(..., *positions)``, or codes that may be relaxed, ``(..., *positions,
                K)`` of floating-point numbers, in which it is linear or what the prior makes of it.

        Returns:
            ``(...)``, at least in float32.
        """

    @abstractmethod
    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw codes: integers ``(count, *positions)``.

        Args:
            count: How many.
            generator: Source of the noise; the global one by default.
        """

    def closed_kl(self, posterior: "Posterior") -> Tensor:
        """Return the part of the KL that needs no draw, here minus the entropy of q.

        Args:
            posterior: q of a batch.

        Returns:
            Nats per example, ``(B,)``.
        """
        return -posterior.entropy()

    def open_kl(self, index: Tensor) -> Tensor:
        """Return the rest of the KL at draws, here the mean of -log p(z).

        Args:
            index: Exact draws from q, integers ``(S, B, *positions)``.

        Returns:
            Nats per example, ``(B,)``, or 0.
        """
        return -self.log_prob(index).mean(0)

    def revive(self, dead: Tensor, anew: bool) -> list[Tensor]:
        """Take note of codes that a code book has moved to where they will be used.

        Args:
            dead: Which, booleans ``(K,)``.
            anew: Whether the whole code book starts anew.

        Returns:
            The tables whose rows of these codes are new; none by default.
        """
        return []


class FactorisedPrior(Prior):
    """A prior of independent positions, whose KL is exact.

    Attributes:
        log_probs: Normalised log-probabilities, ``(K,)`` or ``(L, K)``.
    """

    @property
    @abstractmethod
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities, ``(K,)``, or ``(L, K)`` with one row a position."""

    def log_prob(self, code: Tensor) -> Tensor:
        """Sum over the positions, linear in relaxed codes; see `Prior.log_prob`."""
        positions = len(self.index_shape)
        if code.is_floating_point():
            return (code * self.log_probs).flatten(-positions - 1).sum(-1)
        table = self.log_probs.expand(*code.shape, -1)
        return table.gather(-1, code.unsqueeze(-1)).squeeze(-1).flatten(-positions).sum(-1)

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw each position; see `Prior.sample`."""
        # One uniform number a position and not K of Gumbel noise: a grid has many positions.
        cdf = self.log_probs.detach().double().softmax(-1).cumsum(-1)
        shape = (count, *self.index_shape)
        uniform = torch.rand(shape, generator=generator, dtype=cdf.dtype, device=cdf.device)
        if cdf.dim() == 1:
            found = torch.searchsorted(cdf, uniform)
        else:  # a row of the table for each of the last positions
            found = torch.searchsorted(cdf, uniform.view(-1, len(cdf)).T.contiguous()).T
        return found.clamp_max(self.num_codes - 1).reshape(shape)

    def closed_kl(self, posterior: "Posterior") -> Tensor:
        """Return the whole KL, exact; see `Prior.closed_kl`."""
        return posterior.kl(self)

    def open_kl(self, index: Tensor) -> Tensor:
        """Return 0: nothing is left; see `Prior.open_kl`."""
        return self.log_probs.new_zeros(())
