"""Independent categoricals, given or learned."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dvae.priors.base import FactorisedPrior

__all__ = ["CategoricalPrior"]


class CategoricalPrior(FactorisedPrior):
    """Independent positions, with probabilities that are given or learned with the model.

    Args:
        probs: Probabilities of the K categories, above 0, the same at all positions. Learned by
            default: from uniform ones, for each latent its own, for a code book the same at all
            positions.

    Raises:
        ValueError: Not K probabilities above 0 that sum to 1 (K is known to `build`).

    Example:
        >>> prior = CategoricalPrior([0.5, 0.25, 0.25])
        >>> prior.build((4,), (4, 3))
        >>> prior.log_prob(prior.sample(2)).shape
        torch.Size([2])
    """

    table: Tensor

    def __init__(self, probs: Sequence[float] | None = None) -> None:
        super().__init__()
        self.probs = probs

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; see `Prior.build`."""
        super().build(index_shape, counts_shape)
        if self.probs is None:
            self.logits = nn.Parameter(torch.zeros(tuple(counts_shape)))
        else:
            self.register_buffer("table", _checked(self.probs, self.num_codes))

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities, ``(K,)``, or ``(L, K)`` where each latent learns its own."""
        return self.logits.log_softmax(-1) if self.probs is None else self.table

    @torch.no_grad()
    def revive(self, dead: Tensor, anew: bool) -> list[Tensor]:
        """Make revived codes as probable as the others; see `Prior.revive`.

        The prior has learned that they are never chosen, which would undo their revival.
        """
        if self.probs is not None or not self.logits.requires_grad:
            return []
        for logits, gone in zip(
            self.logits.view(-1, self.num_codes), dead.view(-1, self.num_codes), strict=True
        ):
            logits[gone] = 0.0 if anew else logits[~gone].mean()
        return [self.logits]

    def extra_repr(self) -> str:
        """Name the settings."""
        return "learned" if self.probs is None else f"probs={list(self.probs)}"


def _checked(probs: Sequence[float], num_codes: int) -> Tensor:
    if len(probs) != num_codes or min(probs) <= 0 or not math.isclose(sum(probs), 1, rel_tol=1e-4):
        raise ValueError(
            f"CategoricalPrior.probs must be {num_codes} probabilities above 0 that sum to 1; "
            f"got {list(probs)}"
        )
    return torch.tensor(probs, dtype=torch.float64).log().log_softmax(-1).float()
