"""Vector quantizers whose vectors follow the features by moving averages."""

from typing import Any

import torch
from torch import Tensor, nn

from dvae.bottlenecks.processes import sum_over_processes
from dvae.bottlenecks.tended import TendedQuantizer
from dvae.bottlenecks.upkeep import Upkeep
from dvae.scalars import Range

__all__ = ["AveragedQuantizer"]


class AveragedQuantizer(TendedQuantizer):
    r"""One code book, or several of which each quantizes what those before it have left over.

    The vectors are :math:`e_k = m_k / N_k` with the averages :math:`N_k` of how many features a
    code has in a step and :math:`m_k` of their sum. Features of all processes count, and of all
    batches whose gradients are accumulated; a start or a revival looks at the first of these. A
    code that is started from data or revived begins as at construction, with :math:`N_k = 1`.

    Args:
        kind: Class of the module, whose averages do not move by themselves.
        num_codes: K of each code book, at least 2.
        code_dim: D, at least 1.
        decay: Decay of the moving averages at each step, in (0, 1).
        commitment: Weight of the auxiliary loss, at least 0.
        upkeep: How the vectors are started and kept in use.
        depth: How many code books, at least 1.
        settings: Other arguments of the module.

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(
        self,
        kind: type[nn.Module],
        num_codes: int,
        code_dim: int,
        decay: float,
        commitment: float,
        upkeep: Upkeep,
        depth: int = 1,
        **settings: Any,
    ) -> None:
        name = type(self).__name__
        if not 0 < decay < 1:
            raise ValueError(f"{name}.decay must be in (0, 1); got {decay:g}")
        Range(0.0).check(f"{name}.commitment", commitment)
        settings |= {"decay": decay, "commitment_weight": commitment}
        super().__init__(kind, num_codes, code_dim, upkeep, depth, **settings)
        self.has_loss = commitment > 0
        self._seen: tuple[Tensor, Tensor] | None = None

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index, losses = self.quantizer(rows)
        return code, index, torch.sum(losses) * self.code_features

    @torch.no_grad()
    def _gather(self, features: Tensor, index: Tensor, counts: Tensor) -> None:
        """Add up how many features each code has, and these, ``(depth, K, D)``."""
        if self.upkeep.frozen:
            return
        points, sums = self._points(features), []
        for book, codes in zip(self._books(), index.reshape(-1, self.depth).T, strict=True):
            vectors = book.embed[0]
            sums.append(torch.zeros_like(vectors).index_add_(0, codes, points))
            # What is left over for the next one.
            points = points - vectors[codes]
        before = self._seen or (0, 0)
        self._seen = before[0] + counts, before[1] + torch.stack(sums)

    @torch.no_grad()
    def step(self) -> None:
        """Let the averages follow the features since the last step; see `Bottleneck.step`."""
        super().step()
        if self._seen is None:
            return
        (counts, sums), self._seen = self._seen, None
        sum_over_processes(counts)
        sum_over_processes(sums)
        for book, count, total in zip(self._books(), counts, sums, strict=True):
            if book.training:
                # A step without features leaves them as they are.
                weight = (1 - book.decay) * (count.sum() > 0).to(total.dtype)
                book.cluster_size[0].lerp_(count.to(total.dtype), weight)
                book.embed_avg[0].lerp_(total, weight)
                book.update_ema()

    def skip_step(self) -> None:
        """Forget the features since the last step; see `Bottleneck.skip_step`."""
        super().skip_step()
        self._seen = None

    def _place(self, book: Any, vectors: Tensor, codes: Tensor) -> None:
        """Put codes, booleans ``(K,)``, at vectors, their averages with them."""
        super()._place(book, vectors, codes)
        book.embed_avg[0, codes] = vectors
        book.cluster_size[0, codes] = 1
