"""The inputs of the fused code book in blocks, and the matrices that a block is worked on in."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dvae.kernels.noise import log2_exponential_block, sweep_keys
from dvae.kernels.parts import Book, Relaxation

__all__ = ["GRADIENT", "LOWEST", "Blocks"]

# Rows of a block, and numbers in a block. On a CPU its few matrices stay in a level-3 cache, and
# are large enough that starting an operation costs little; a GPU wants larger ones still.
_ROWS = 1024
_NUMBERS = {"cpu": 2**19}
_NUMBERS_ELSEWHERE = 2**23
# Lower than any logit, and finite: the difference of two of them is a number.
LOWEST = -1e30
# Powers of two are a third of the work of powers of e on some CPUs, and never more.
_LOG2E = math.log2(math.e)
_LN2 = math.log(2)
# The matrices of a block. Noise is computed in the last two.
_LOGITS = 0
GRADIENT = 1
_POSTERIOR = 2
_SCORES = 3


class Blocks:
    """The inputs, cut into blocks and lifted to the dtype of the computation."""

    def __init__(self, h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> None:
        self.h, self.book = h, book
        self.noisy, self.hard, self.heun = relaxation.noisy, relaxation.hard, relaxation.heun
        self.dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        self.inverse_tau = relaxation.tau.to(h.device, self.dtype).reciprocal()
        self.rate = self.inverse_tau * _LOG2E
        self.num_codes = len(book.weight)
        self.log_num_codes = math.log(self.num_codes)
        self.keys = sweep_keys(seed, len(h), h.device)
        self.columns = torch.arange(self.num_codes, dtype=torch.int32, device=h.device)
        self.bias = None if book.bias is None else self.lift(book.bias).clamp_min(LOWEST)
        self.log_prior = None if book.log_prior is None else self.lift(book.log_prior)
        size = _NUMBERS.get(h.device.type, _NUMBERS_ELSEWHERE)
        self.height = max(1, min(len(h), _ROWS))
        self.width = max(1, min(self.num_codes, size // self.height))
        # The matrices of a block, made once: memory fresh from the system costs a CPU more than
        # most of what is done in it.
        self._space = [self.numbers(self.height * self.width) for _ in range(4)]

    def numbers(self, *shape: int) -> Tensor:
        """Return an empty tensor."""
        return torch.empty(shape, dtype=self.dtype, device=self.h.device)

    def space(self, place: int, rows: slice, codes: slice) -> Tensor:
        """Return one of the matrices ``(n, k)``, which holds what it was left with."""
        shape = rows.stop - rows.start, codes.stop - codes.start
        return self._space[place][: shape[0] * shape[1]].view(shape)

    def lift(self, x: Tensor) -> Tensor:
        """Cast to the dtype of the computation."""
        return x.to(self.dtype)

    def rows(self) -> Iterator[slice]:
        """Cut the rows."""
        for start in range(0, len(self.h), self.height):
            yield slice(start, min(start + self.height, len(self.h)))

    def codes(self) -> Iterator[slice]:
        """Cut the codes."""
        for start in range(0, self.num_codes, self.width):
            yield slice(start, min(start + self.width, self.num_codes))

    def logits(self, h: Tensor, rows: slice, codes: slice) -> Tensor:
        """Compute the logits of lifted features ``(n, C)``: ``(n, k)``."""
        weight = self.lift(self.book.weight[codes]).t()
        out = self.space(_LOGITS, rows, codes)
        if self.bias is None:
            return torch.mm(h, weight, out=out)
        return torch.addmm(self.bias[codes], h, weight, out=out)

    def scores(self, logits: Tensor, rows: slice, codes: slice) -> Tensor:
        """Add the noise to logits ``(n, k)``."""
        halves = [self._space[place].view(torch.int32) for place in (_POSTERIOR, _SCORES)]
        words = [half[: logits.numel()].view(logits.shape) for half in halves]
        noise = self.lift(log2_exponential_block(self.keys[:, rows], self.columns[codes], words))
        return torch.sub(logits, noise, alpha=_LN2, out=noise)

    def put(self, values: Tensor, x: Tensor, place: Tensor, codes: slice) -> None:
        """Write a value ``(n,)`` to each row of x ``(n, k)``, where its place is in the block."""
        inside = (place >= codes.start) & (place < codes.stop)
        local = (place - codes.start).clamp(0, x.shape[1] - 1).unsqueeze(1)
        here = x.gather(1, local).squeeze(1)
        x.scatter_(1, local, torch.where(inside, values, here).unsqueeze(1))

    def copy(self, logits: Tensor, rows: slice, codes: slice) -> Tensor:
        """Copy logits to where scores are, in the place of those."""
        return self.space(_SCORES, rows, codes).copy_(logits)

    def powers(self, shifted: Tensor, rows: slice, codes: slice) -> Tensor:
        """Compute powers of e."""
        out = self.space(_POSTERIOR, rows, codes)
        return torch.mul(shifted, _LOG2E, out=out).exp2_()

    def log_ratio(self, log_q: Tensor, codes: slice) -> Tensor:
        """Subtract the prior's log-probabilities where there is one given; in place."""
        return log_q if self.log_prior is None else log_q.sub_(self.log_prior[codes])
