"""Codes on a stack, by the probabilities that a prior gives their integers one after another."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dvae.coding.ans import Stack, quantized
from dvae.priors.base import FactorisedPrior, Prior
from dvae.priors.masked import MaskedPrior
from dvae.priors.sequential import SequentialPrior

__all__ = ["pop_codes", "push_codes"]

_Turn = tuple[Tensor, Callable[[Tensor], Tensor]]
"""Places of some integers, and a function of the codes ``(N, T)``, of which the integers of earlier
turns count, that gives their logits ``(N, places, K)``."""


def push_codes(stack: Stack, prior: Prior, index: Tensor, rows: int) -> None:
    """Push codes, -log2 p(z) bits.

    The integers are uncovered turn by turn as `pop_codes` does it, by the same operations on
    tensors of the same shapes: so the probabilities are the same to the last bit.

    Args:
        stack: Where to.
        prior: Their distribution, in float64 and in evaluation mode.
        index: Integers ``(B, *positions)``.
        rows: Codes that the prior is given at once, at least B.
    """
    count, flat = len(index), index.flatten(1)
    known = flat.new_zeros(rows, flat.shape[1])
    pushed = []
    for places, logits in _turns(prior):
        pushed.append((flat[:, places], quantized(logits(known)[:count].double().softmax(-1))))
        known[:count, places] = flat[:, places]
    for symbols, table in reversed(pushed):
        stack.push(symbols, table)


def pop_codes(stack: Stack, prior: Prior, count: int, rows: int) -> Tensor:
    """Pop what `push_codes` pushed: integers ``(count, *positions)``.

    Args:
        stack: Where from.
        prior: As in `push_codes`.
        count: Number of codes.
        rows: As in `push_codes`.
    """
    known = torch.zeros(rows, torch.Size(prior.index_shape).numel(), dtype=torch.int64)
    for places, logits in _turns(prior):
        symbols = stack.pop(quantized(logits(known)[:count].double().softmax(-1)))
        known[:count, places] = symbols.view(count, len(places))
    return known[:count].view(count, *prior.index_shape)


def _turns(prior: Prior) -> Iterator[_Turn]:
    """Say which integers are drawn in each turn, and how probable they are then.

    A `MaskedPrior` of several orders, whose p is their mean, is taken at its first.
    """
    places = torch.arange(torch.Size(prior.index_shape).numel())
    if isinstance(prior, FactorisedPrior):
        table = prior.log_probs.expand(*prior.index_shape, -1).flatten(0, -2)
        yield places, lambda index: table.expand(len(index), -1, -1)
    elif isinstance(prior, SequentialPrior):
        step = prior.steps()
        for t in range(len(places)):
            yield places[t : t + 1], lambda index, t=t: step(index, t).unsqueeze(1)  # type: ignore[misc]
    elif isinstance(prior, MaskedPrior):
        turns = prior.turns[0]
        for start, end in prior.spans():
            now = places[(turns >= start) & (turns < end)]
            seen = turns < start
            yield now, lambda index, now=now, seen=seen: prior.logits(index, seen)[:, now]  # type: ignore[misc]
    else:
        raise ValueError(
            f"{type(prior).__name__} gives no integer its probability given others: a prior that "
            "codes is a FactorisedPrior, a SequentialPrior or a MaskedPrior"
        )
