"""What a prior is: the distribution of a model's codes, and its part in the bound."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from dvae.described import Described
from dvae.functional import truncate_logits
from dvae.scalars import Range, check_count, settings_of

if TYPE_CHECKING:
    from dvae.bottlenecks.posterior import Posterior

__all__ = ["FactorisedPrior", "Prior", "Sampling"]


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn from a prior; by default exactly as it has them.

    Args:
        temperature: Divisor of the logits, above 0; below 1 draws what is more probable.
        top_k: Categories of each integer to draw from, the most probable ones; 0 for all.
        top_p: Probability to draw from at least, in (0, 1], of the fewest most probable ones.
        guidance: Weight of classifier-free guidance, at least 0, for priors with classes: logits
            ``(1 + w) given the class - w without it``.

    Raises:
        ValueError: A value outside its range.

    References:
        J. Ho, T. Salimans, 2022, arXiv 2207.12598, eq. 6 (guidance).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        Range(0.0, low_allowed=False).check("temperature", self.temperature)
        Range(0.0, low_allowed=False, high=1.0).check("top_p", self.top_p)
        Range(0.0).check("guidance", self.guidance)
        check_count("top_k", self.top_k, 0)

    def __call__(self, logits: Tensor, untold: Tensor | None = None) -> Tensor:
        """Change logits ``(..., K)`` before a draw, given those without the class if guided."""
        if untold is not None:
            logits = (1 + self.guidance) * logits - self.guidance * untold
        return truncate_logits(logits, self.temperature, self.top_k, self.top_p)


EXACT = Sampling()


class Prior(Described, nn.Module, ABC):
    r"""p(z), a part of the model as the likelihood is.

    Where its KL has no closed form, the bound is

    .. math:: E_q[\log p(x|z) + \beta \log p(z)] + \beta H(q)

    with the exact entropy, and the prior inside the function whose expectation the estimator takes:
    so every estimator trains every prior by the same step.

    Attributes:
        index_shape: Shape of the integers of one image, ``(L,)`` or that of the grid.
        num_codes: Categories K of each integer.
        num_classes: Classes that it can be told of; 0 where it knows none.
        estimates: Whether `log_prob` in training is an unbiased estimate of a lower bound on log p.
    """

    index_shape: tuple[int, ...] = ()
    num_codes: int = 0
    num_classes: int = 0
    estimates: bool = False

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

    def extra_repr(self) -> str:
        """Name the settings."""
        return settings_of(self)

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
    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw codes: integers ``(count, *positions)``.

        Args:
            count: How many.
            generator: Source of the noise; the global one by default.
            how: What is drawn from; exactly p by default.
            label: Class of each, integers ``(count,)``, for priors with classes.

        Raises:
            ValueError: A class that the prior does not know of.
        """

    def given(self, label: Tensor | None) -> "Prior":
        """Return p(z | label) for a batch, or this prior where it knows no classes.

        Args:
            label: Class of each example, integers ``(B,)``; ``None`` where it is not known.
        """
        return self

    def complete(
        self,
        index: Tensor,
        mask: Tensor,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw some of the integers of codes anew, given the others.

        Args:
            index: Integers ``(N, *positions)``.
            mask: Where to draw, booleans that can be expanded to the shape of ``index``.
            generator: Source of the noise; the global one by default.
            how: What is drawn from; exactly p by default.
            label: Class of each, integers ``(N,)``, for priors with classes.

        Returns:
            Integers ``(N, *positions)``, where the mask is False those of ``index``.

        Raises:
            ValueError: The prior cannot draw these given the others, or does not know a class.
        """
        raise ValueError(f"{type(self).__name__} cannot draw integers of a code given the others")

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
            dead: Which, booleans ``(K,)``, or ``(L, K)`` where the positions' codes are of several
                code books, of which others may have none.
            anew: Whether the whole code book that has dead ones starts anew.

        Returns:
            The tables whose rows of these codes are new; none by default.
        """
        return []


def refuse_label(prior: Prior, label: Tensor | None) -> None:
    """Refuse classes of a prior that knows none, or fewer.

    Args:
        prior: The prior.
        label: Integers, or nothing.
    """
    if label is None or not label.numel():
        return
    if not prior.num_classes:
        raise ValueError(
            f"{type(prior).__name__} knows no classes: leave label out, or train one that "
            "does, such as AutoregressivePrior with num_classes"
        )
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= prior.num_classes:
        raise ValueError(f"label must be in [0, {prior.num_classes}); got {low} to {high}")


class FactorisedPrior(Prior):
    """A prior of independent positions, whose KL is exact."""

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

    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw each position; see `Prior.sample`."""
        refuse_label(self, label)
        # One uniform number a position and not K of Gumbel noise: a grid has many positions.
        cdf = how(self.log_probs.detach().double()).softmax(-1).cumsum(-1)
        shape = (count, *self.index_shape)
        uniform = torch.rand(shape, generator=generator, dtype=cdf.dtype, device=cdf.device)
        if cdf.dim() == 1:
            found = torch.searchsorted(cdf, uniform)
        else:  # a row of the table for each of the last positions
            found = torch.searchsorted(cdf, uniform.view(-1, len(cdf)).T.contiguous()).T
        return found.clamp_max(self.num_codes - 1).reshape(shape)

    def complete(
        self,
        index: Tensor,
        mask: Tensor,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw where the mask says, on which the others have no bearing; see `Prior.complete`."""
        return torch.where(mask, self.sample(len(index), generator, how, label), index)

    def closed_kl(self, posterior: "Posterior") -> Tensor:
        """Return the whole KL, exact; see `Prior.closed_kl`."""
        return posterior.kl(self)

    def open_kl(self, index: Tensor) -> Tensor:
        """Return 0: nothing is left; see `Prior.open_kl`."""
        return self.log_probs.new_zeros(())
