"""What bottlenecks share that have several code books at each position."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dvae.bottlenecks.codebook import CodebookBottleneck
from dvae.bottlenecks.grid import GridBottleneck, count_levels
from dvae.bottlenecks.processes import from_first_process
from dvae.estimators.base import Estimator
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.priors.base import Prior

__all__ = ["SeveralCodebooks"]


class SeveralCodebooks(GridBottleneck):
    """Code books of K vectors each, one for each of the integers of a position.

    The grid of integers has an axis for them, ``(H, W, L)`` for L code books.

    Args:
        books: The code books, with an estimator that is not needed.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
    """

    def __init__(self, books: Sequence[CodebookBottleneck], estimator: Estimator | None) -> None:
        super().__init__()
        self.num_codes = books[0].num_codes
        self.counts_shape = (len(books), self.num_codes)
        self.estimator = GumbelSoftmax(hard=True) if estimator is None else estimator
        for book in books:
            del book.estimator  # what draws is the whole's
        self.books = nn.ModuleList(books)
        self._moved_of_prior: dict[int, tuple[Tensor, Tensor]] = {}

    def _each(self) -> list[CodebookBottleneck]:
        return [book for book in self.books if isinstance(book, CodebookBottleneck)]

    def tended_logits(self, number: int, rows: Tensor, prior: Prior | None) -> Tensor:
        """Return the logits of one code book; in training, start, revive and count its codes.

        Args:
            number: Which of the code books, from 0.
            rows: Its features ``(B, *positions, in_features)``, at least in float32.
            prior: What is told of revived codes, if anything.
        """
        book = self._each()[number]
        book.accumulates = self.accumulates
        priced = None if prior is None else partial(self._revive_prior, prior, number)
        return book.tended_logits(rows, priced)

    def vectors(self) -> Tensor:
        """Return the vectors of each code book; see `GridBottleneck.vectors`."""
        return torch.stack([book.codebook for book in self._each()])

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image, ``(H, W, L)``; see `GridBottleneck.index_shape`."""
        return (*super().index_shape, len(self.books))

    def count(self, index: Tensor) -> Tensor:
        """Count each code, ``(L, K)``."""
        return count_levels(index, *self.counts_shape)

    def step(self) -> None:
        """Count the step for the codes that are not in use; see `Bottleneck.step`."""
        for book in self._each():
            book.step()

    def skip_step(self) -> None:
        """Forget the uses since the last step; see `Bottleneck.skip_step`."""
        for book in self._each():
            book.skip_step()

    def take_moved(self) -> list[tuple[Tensor, Tensor]]:
        """Return what belongs to revived codes; see `Bottleneck.take_moved`."""
        moved = [pair for book in self._each() for pair in book.take_moved()]
        moved += self._moved_of_prior.values()
        self._moved_of_prior = {}
        return moved

    def _revive_prior(self, prior: Prior, number: int, dead: Tensor, anew: bool) -> list[Tensor]:
        """Tell the prior of the revived codes ``(K,)`` of one code book; see `Prior.revive`."""
        every = torch.zeros(self.counts_shape, dtype=torch.bool, device=dead.device)
        every[number] = dead
        for table in prior.revive(every, anew):
            from_first_process(table.data)
            # A table begins with the books or with the codes; of as many, a few more are forgotten.
            found = [mask for mask in (every, every.T) if mask.shape == table.shape[:2]]
            before = self._moved_of_prior.get(id(table), (table, torch.zeros_like(found[0])))[1]
            self._moved_of_prior[id(table)] = (table, found[0] | found[-1] | before)
        return []
