"""Vector quantizers whose vectors follow the features by moving averages, started and revived."""

from typing import Any

import torch
from torch import Tensor, nn
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

from dvae.bottlenecks.processes import from_all_processes, from_first_process, sum_over_processes
from dvae.bottlenecks.quantizer import Quantizer
from dvae.bottlenecks.upkeep import POINTS_PER_CODE, Idle, Once, Upkeep, data_centers, spread_out
from dvae.functional import squared_distance
from dvae.scalars import Range

__all__ = ["AveragedQuantizer"]


class AveragedQuantizer(Quantizer):
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
        settings |= {"decay": decay, "commitment_weight": commitment, "codebook_size": num_codes}
        settings |= {"sync_codebook": False, "ema_update": False}
        super().__init__(kind, num_codes, code_dim, depth, **settings)
        self.has_loss = commitment > 0
        self.upkeep = upkeep
        self.start = Once()
        limit = 0 if upkeep.frozen else upkeep.revive_after
        self.idle = nn.ModuleList(Idle(num_codes, limit) for _ in range(depth))
        self._seen: tuple[Tensor, Tensor] | None = None
        for book in self._books():
            # The library would ask the device in each pass whether its own start, which is off, is
            # still to come.
            book.init_embed_ = _start_nothing

    def _books(self) -> list[Any]:
        return [module for module in self.quantizer.modules() if isinstance(module, Codebook)]

    def _idle(self) -> list[Idle]:
        return [idle for idle in self.idle if isinstance(idle, Idle)]

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index, losses = self.quantizer(rows)
        return code, index, torch.sum(losses) * self.code_features

    def _look_up(self, index: Tensor) -> Tensor:
        codes: Tensor = self.quantizer.get_output_from_indices(index)  # type: ignore[operator]
        return codes

    def _run(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.quantizer.training:
            return super()._run(features)
        self._tend(features)
        code, index, loss = super()._run(features)
        self._gather(features, index)
        if not self.accumulates:
            self.step()
        return code, index, loss

    def _points(self, features: Tensor) -> Tensor:
        """Put features ``(B, D, H, W)`` in rows ``(N, D)``, in the order of their integers."""
        return features.detach().flatten(2).mT.flatten(0, 1).to(self.one.dtype)

    @torch.no_grad()
    def _gather(self, features: Tensor, index: Tensor) -> None:
        """Add up how many features each code has, ``(depth, K)``, and these, ``(depth, K, D)``."""
        counts = self.count(index).view(self.depth, self.num_codes)
        for idle, count in zip(self._idle(), counts, strict=True):
            idle.add(count)
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
        for idle in self._idle():
            idle.step()
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
        for idle in self._idle():
            idle.skip_step()
        self._seen = None

    @torch.no_grad()
    def _tend(self, features: Tensor) -> None:
        start = self.start.due() and self.upkeep.kmeans > 0
        revive = [idle.due() for idle in self._idle()]
        if not start and not any(revive):
            return
        points = from_all_processes(self._points(features), POINTS_PER_CODE * self.num_codes)
        if not len(points):
            if start:
                self.start.postpone()
            return
        for book, idle, due in zip(self._books(), self._idle(), revive, strict=True):
            vectors = book.embed[0]
            if start:
                centers = data_centers(points, self.num_codes, self.upkeep.kmeans)
                _place(book, centers, torch.ones_like(idle.dead()))
            elif due:
                dead = idle.dead()
                distance = squared_distance(points, vectors[~dead]).amin(-1)
                new = points[spread_out(points, distance, int(dead.sum()))]
                _place(book, from_first_process(new), dead)
                idle.forgive(dead)
            # What is left over for the next one.
            points = points - vectors[squared_distance(points, vectors).argmin(-1)]


def _start_nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _place(book: Any, vectors: Tensor, codes: Tensor) -> None:
    """Put codes, booleans ``(K,)``, at vectors, their averages with them."""
    book.embed[0, codes] = vectors
    book.embed_avg[0, codes] = vectors
    book.cluster_size[0, codes] = 1
