"""The inputs of the fused code book in blocks, and the matrices that a block is worked on in."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dvae.kernels.loops import LOG2E, LOWEST
from dvae.kernels.native import pick_loops
from dvae.kernels.noise import sweep_keys
from dvae.kernels.parts import Book, Relaxation
from dvae.kernels.products import pick_products

__all__ = ["Blocks"]

# Rows of a block, and numbers in a block. On a CPU its few matrices stay in a level-3 cache, and
# are large enough that starting an operation costs little; a GPU wants larger ones still.
_ROWS = 1024
_NUMBERS = {"cpu": 2**19}
_NUMBERS_ELSEWHERE = 2**23
# The matrices of a block.
_LOGITS = 0
_PULL = 1
_SPARE = 2
_SCORES = 3


class Blocks:
    """The inputs, cut into blocks and lifted to the dtype of the computation."""

    def __init__(self, h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> None:
        self.h, self.book = h, book
        self.noisy, self.hard, self.heun = relaxation.noisy, relaxation.hard, relaxation.heun
        self.dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        self.loops = pick_loops(h.device, self.dtype)
        self.products = pick_products(h.device, h.dtype)
        self.inverse_tau = relaxation.tau.to(h.device, self.dtype).reciprocal()
        self.rate = self.inverse_tau * LOG2E
        self.num_codes = len(book.weight)
        self.log_num_codes = math.log(self.num_codes)
        self.keys = sweep_keys(seed, len(h), h.device)
        self.columns = torch.arange(self.num_codes, dtype=torch.int32, device=h.device)
        self.bias = None if book.bias is None else self.lift(book.bias).clamp_min(LOWEST)
        self.log_prior = None if book.log_prior is None else self.lift(book.log_prior).contiguous()
        size = _NUMBERS.get(h.device.type, _NUMBERS_ELSEWHERE)
        self.height = max(1, min(len(h), _ROWS))
        self.width = max(1, min(self.num_codes, size // self.height))
        # The matrices of a block, each made when it is first used, and once: memory fresh from the
        # system costs a CPU more than most of what is done in it.
        self._spaces: dict[int, Tensor] = {}

    def numbers(self, *shape: int) -> Tensor:
        """Return an empty tensor."""
        return torch.empty(shape, dtype=self.dtype, device=self.h.device)

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
        weight, bias = self.lift(self.book.weight[codes]), None
        if self.bias is not None:
            bias = self.bias[codes]
        return self.products.outer(h, weight, bias, lambda: self._space(_LOGITS, rows, codes))

    def scores(self, logits: Tensor, rows: slice, codes: slice) -> Tensor:
        """Add the noise to logits ``(n, k)``."""
        out, spare = (self._space(place, rows, codes) for place in (_SCORES, _SPARE))
        return self.loops.add_noise(logits, self.keys[:, rows], self.columns[codes], out, spare)

    def copy(self, logits: Tensor, rows: slice, codes: slice) -> Tensor:
        """Copy logits to where scores are, in the place of those."""
        return self._space(_SCORES, rows, codes).copy_(logits)

    def pull(self, mean: Tensor, grad: Tensor, rows: slice, codes: slice) -> Tensor:
        """Compute gradients of vectors ``(n, D)`` by each code's, less a mean ``(n,)``."""
        codebook = self.lift(self.book.codebook[codes])
        minus = -mean.unsqueeze(1)
        return self.products.outer(grad, codebook, minus, lambda: self._space(_PULL, rows, codes))

    def spare(self, rows: slice, codes: slice) -> Tensor:
        """Return a matrix ``(n, k)`` to work in."""
        return self._space(_SPARE, rows, codes)

    def prior(self, codes: slice) -> Tensor | None:
        """Return the prior's log-probabilities where there is one given."""
        return None if self.log_prior is None else self.log_prior[codes]

    def _space(self, place: int, rows: slice, codes: slice) -> Tensor:
        """Return one of the matrices ``(n, k)``, which holds what it was left with."""
        shape = rows.stop - rows.start, codes.stop - codes.start
        if place not in self._spaces:
            self._spaces[place] = self.numbers(self.height * self.width)
        return self._spaces[place][: shape[0] * shape[1]].view(shape)
