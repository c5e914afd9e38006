"""Metrics of the code: counted over the epoch and over all processes, reduced last."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from dvae.functional import perplexity_from_counts, usage_from_counts

__all__ = ["CodebookUsage"]


class CodebookUsage(Metric):
    """How often each code is used.

    `compute` returns the counts; `perplexity` and `usage` reduce them. With counts of several
    latents ``(L, K)`` the reductions are averages over the latents of the value of each.

    Args:
        shape: Of the counts: ``(L, K)`` for L latents of K categories, ``(K,)`` for one code
            book shared by all positions.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        zeros = torch.zeros(tuple(shape), dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the counts of a batch.

        Args:
            counts: Integers, of the metric's shape.
        """
        self.counts += counts

    def compute(self) -> Tensor:
        """Return the counts."""
        return self.counts

    @staticmethod
    def perplexity(counts: Tensor) -> Tensor:
        """Return codes in effective use, within [1, K], averaged over latents."""
        return perplexity_from_counts(counts).mean()

    @staticmethod
    def usage(counts: Tensor) -> Tensor:
        """Return the fraction of codes used at all, averaged over latents."""
        return usage_from_counts(counts).mean()
