"""The loops over a block of the fused code book, between its matrix products.

Here they are torch's operations one after the other, on any device and in any precision;
`dvae.kernels.native` has the same compiled.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dvae.devices import is_waited_for
from dvae.kernels.noise import log2_exponential_block

__all__ = ["LN2", "LOG2E", "LOWEST", "Loops", "RowTerms", "TorchLoops"]

# Lower than any logit, and finite: the difference of two of them is a number. A power of two, so
# that it is itself in bfloat16.
LOWEST = -(2.0**99)
# Powers of two are a third of the work of powers of e on some CPUs, and never more.
LOG2E = math.log2(math.e)
LN2 = math.log(2)


@dataclass(frozen=True)
class RowTerms:
    """Numbers of each row that the gradient of its logits is made of, ``(n,)`` each.

    Attributes:
        winner: The code of the largest exponent, 64-bit integers.
        of_winner: What stands for u at the winner.
        top: Largest logit.
        ratio: Mean log-ratio of posterior and prior.
        of_kl: Upstream gradient of the KL over the sum of exp(logit - top), if there is one.
        half: For ReinMax, what the posterior's own term is multiplied by.
        shift: For ReinMax, what is added to u there.
        of_winner_posterior: For ReinMax, what stands for that sum at the winner.
    """

    winner: Tensor
    of_winner: Tensor
    top: Tensor
    ratio: Tensor
    of_kl: Tensor | None = None
    half: Tensor | None = None
    shift: Tensor | None = None
    of_winner_posterior: Tensor | None = None

    @cached_property
    def stacked(self) -> Tensor:
        """All but the winners, one after the other; zeros for those that are not there."""
        none = torch.zeros_like(self.top)
        numbers = (
            *(self.of_winner, self.top, self.of_kl, self.ratio),
            *(self.half, self.shift, self.of_winner_posterior),
        )
        return torch.stack([none if x is None else x for x in numbers])


class Loops(Protocol):
    """What is done to the matrices ``(n, k)`` of a block, in their places; rows have ``(n,)``."""

    def add_noise(
        self, logits: Tensor, keys: Tensor, columns: Tensor, out: Tensor, spare: Tensor
    ) -> Tensor:
        """Return the logits with Gumbel noise, in ``out``; overwrites the spare matrix.

        Args:
            logits: Stay as they are.
            keys: Keys of the rows, ``(2, n, 1)``; see `dvae.kernels.noise`.
            columns: Column numbers, 32-bit integers ``(k,)``.
            out: Place of the result.
            spare: Place to work in.
        """

    def raise_maxima(self, x: Tensor, highest: Tensor, place: Tensor, start: int) -> Tensor:
        """Return the maxima of rows so far, and note the places of those that are new.

        Args:
            x: A block; its numbers stay.
            highest: Maxima before it.
            place: Their columns, 64-bit integers; changed in place.
            start: Column that the block begins at.
        """

    def weigh(self, x: Tensor, peak: Tensor, rate: Tensor) -> Tensor:
        """Turn x into 2^((x - peak) rate), and return the sums of rows.

        Args:
            x: Overwritten.
            peak: At least the maxima of rows.
            rate: One number, ``()``.
        """

    def diverge(
        self, logits: Tensor, top: Tensor, log_prior: Tensor | None, spare: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q = exp(logits - top), its sums, and those of q times the log-ratio.

        Args:
            logits: Overwritten.
            top: At least the maxima of rows.
            log_prior: Subtracted from the exponent for the log-ratio, ``(k,)``.
            spare: Place to work in.
        """

    def gradient(
        self,
        logits: Tensor,
        pull: Tensor | None,
        weights: Tensor,
        terms: RowTerms,
        start: int,
        log_prior: Tensor | None,
        spare: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the logits, and q where a KL or ReinMax has a part in it.

        s u + q (of_kl (log-ratio - ratio) - half (u + shift)), other terms at the winner.

        Args:
            logits: Overwritten.
            pull: u, what each code would add to the loss; overwritten. None without a gradient of
                the code.
            weights: s; overwritten, and of no meaning without u.
            terms: What the rows add.
            start: Column that the block begins at.
            log_prior: See `diverge`.
            spare: Place to work in.
        """


class TorchLoops:
    """The loops in torch's own operations."""

    def add_noise(
        self, logits: Tensor, keys: Tensor, columns: Tensor, out: Tensor, spare: Tensor
    ) -> Tensor:
        """See `Loops.add_noise`."""
        words = [x.view(-1).view(torch.int32)[: x.numel()].view(x.shape) for x in (spare, out)]
        noise = log2_exponential_block(keys, columns, words).to(logits.dtype)
        return torch.sub(logits, noise, alpha=LN2, out=noise)

    def raise_maxima(self, x: Tensor, highest: Tensor, place: Tensor, start: int) -> Tensor:
        """See `Loops.raise_maxima`."""
        most = x.amax(-1)
        higher = most > highest
        if is_waited_for(x):
            # How many rows that are is not known without waiting.
            torch.where(higher, x.argmax(-1) + start, place, out=place)
        else:
            # After the first few blocks these are few, and to find a place takes a CPU many
            # times as long as to find a maximum.
            rows = higher.nonzero().squeeze(1)
            place[rows] = x[rows].argmax(-1) + start
        return torch.maximum(most, highest)

    def weigh(self, x: Tensor, peak: Tensor, rate: Tensor) -> Tensor:
        """See `Loops.weigh`."""
        return x.sub_(peak.unsqueeze(1)).mul_(rate).exp2_().sum(-1)

    def diverge(
        self, logits: Tensor, top: Tensor, log_prior: Tensor | None, spare: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Loops.diverge`."""
        shifted, q = _powers(logits, top, spare)
        total = q.sum(-1)
        return q, total, _log_ratio(shifted, log_prior).mul_(q).sum(-1)

    def gradient(
        self,
        logits: Tensor,
        pull: Tensor | None,
        weights: Tensor,
        terms: RowTerms,
        start: int,
        log_prior: Tensor | None,
        spare: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `Loops.gradient`."""
        found = None
        if pull is not None:
            _put(terms.of_winner, pull, terms.winner - start)
            found = weights.mul_(pull)
        if terms.of_kl is None and terms.half is None:
            assert found is not None
            return found, spare
        factor, q = _powers(logits, terms.top, spare)
        if terms.of_kl is None:
            factor.zero_()
        else:
            factor = _log_ratio(factor, log_prior).sub_(terms.ratio.unsqueeze(1))
            factor.mul_(terms.of_kl.unsqueeze(1))
        if terms.half is not None and terms.shift is not None and pull is not None:
            assert terms.of_winner_posterior is not None
            # u at the winner is another number now, and is put there anew.
            pull.add_(terms.shift.unsqueeze(1))
            _put(terms.of_winner_posterior, pull, terms.winner - start)
            factor.addcmul_(pull, terms.half.unsqueeze(1), value=-1)
        return (factor.mul_(q) if found is None else found.addcmul_(factor, q)), q


def _powers(logits: Tensor, top: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits less the top, in their place, and powers of e of that."""
    shifted = logits.sub_(top.unsqueeze(1))
    return shifted, torch.mul(shifted, LOG2E, out=out).exp2_()


def _log_ratio(log_q: Tensor, log_prior: Tensor | None) -> Tensor:
    """Subtract the prior's log-probabilities where there is one given; in place."""
    return log_q if log_prior is None else log_q.sub_(log_prior)


def _put(values: Tensor, x: Tensor, place: Tensor) -> None:
    """Write a value ``(n,)`` to each row of x ``(n, k)``, where its place is in the block."""
    inside = (place >= 0) & (place < x.shape[1])
    local = place.clamp(0, x.shape[1] - 1).unsqueeze(1)
    here = x.gather(1, local).squeeze(1)
    x.scatter_(1, local, torch.where(inside, values, here).unsqueeze(1))
