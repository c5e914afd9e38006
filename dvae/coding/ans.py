"""A stack of bits: integers are pushed by their probabilities, and popped in reverse."""

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dvae.extras import require

__all__ = ["LARGEST", "Stack", "initial_words", "quantized"]

# Probabilities are multiples of 2^-22, which float32 and its sums hold exactly: coarse enough that
# two machines hardly ever round to different ones, fine enough to cost next to nothing.
_ONE = 2**22
LARGEST = 2**18
"""Most categories of an integer that can be coded."""

Table = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]


def quantized(p: Tensor) -> Table:
    """Round probabilities to integers, none of them 0, of which every row sums to one whole.

    Args:
        p: Probabilities ``(..., K)``, in float64.

    Returns:
        Multiples of 2^-22, ``(N, K)`` with all leading axes in one.

    Raises:
        ValueError: Some are not numbers.
    """
    codes = p.shape[-1]
    total = p.reshape(-1, codes).cumsum(-1)
    if total.isnan().any():
        raise ValueError("the model gives probabilities that are not numbers: it codes nothing")
    # The edges are rounded and not the widths, so that nothing is left over.
    edges = (total * (_ONE - codes)).round() + torch.arange(1, codes + 1, dtype=total.dtype)
    edges[:, -1] = _ONE
    widths = torch.diff(edges, dim=-1, prepend=edges.new_zeros(len(edges), 1)) / _ONE
    return np.asarray(widths.float().numpy())


def initial_words(count: int) -> Words:
    """Return what lies below all pushed integers: words that look random, the same everywhere.

    Args:
        count: How many; those of a larger count have them on top of others.
    """
    stream = hashlib.shake_256(b"dvae.coding").digest(4 * count)
    return np.frombuffer(stream, "<u4")[::-1].astype(np.uint32)


class Stack:
    """The stack of asymmetric numeral systems of `constriction`.

    An integer of probability p adds -log2 p bits, and takes them away when it is popped. Popping
    integers that nobody has pushed draws them from their probabilities: the bits of the stack are
    the noise, and pushing the integers gives them back.

    Args:
        words: The stack to go on with, its bottom first; the last word is not 0.
        initial: Words at the bottom that are those of `initial_words`.

    Raises:
        MissingExtra: constriction is not installed.

    References:
        J. Duda, 2009, arXiv 0902.0271; R. Bamler, 2022, arXiv 2201.01741 (constriction).
    """

    def __init__(self, words: Words, initial: int) -> None:
        self._stream = require("constriction", "coding").stream
        self._model = self._stream.model.Categorical(perfect=False)
        self._coder = self._stream.stack.AnsCoder(words)
        self.initial = initial

    @property
    def words(self) -> Words:
        """All that is on the stack, its bottom first."""
        return np.asarray(self._coder.get_compressed())

    @property
    def spent(self) -> bool:
        """Whether more was popped than was pushed, after which any number could be popped."""
        return not self.size or (self.size == 1 and bool(self.words < initial_words(1)))

    @property
    def size(self) -> int:
        """Number of words on the stack."""
        return int(self._coder.num_words())

    def push(self, symbols: Tensor, table: Table) -> None:
        """Push integers, the last one first.

        Args:
            symbols: Integers in [0, K), N in any shape.
            table: Their probabilities ``(N, K)``, of `quantized`.
        """
        flat = symbols.reshape(-1).numpy().astype(np.int32)
        if len(flat):
            self._coder.encode_reverse(flat, self._model, table)

    def pop(self, table: Table) -> Tensor:
        """Pop integers, in the order in which `push` was given them.

        Args:
            table: Their probabilities ``(N, K)``, of `quantized`.

        Returns:
            Integers ``(N,)``; any, where the stack has run empty.
        """
        if not len(table):
            return torch.zeros(0, dtype=torch.int64)
        return torch.from_numpy(self._coder.decode(self._model, table).astype(np.int64))

    def draw(self, table: Table) -> Tensor:
        """Pop integers that nobody has pushed; words are put below where there are too few.

        Args:
            table: Their probabilities ``(N, K)``, of `quantized`.
        """
        while self.size < len(table) + 2:  # an integer takes away less than a word
            before = self._coder.clone()
            found = self.pop(table)
            if self.size >= 2:
                return found
            more = 1 + self.initial // 4
            deeper = initial_words(self.initial + more)[:more]
            words = np.concatenate([deeper, np.asarray(before.get_compressed())])
            self._coder, self.initial = self._stream.stack.AnsCoder(words), self.initial + more
        return self.pop(table)
