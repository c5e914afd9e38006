"""Vector quantizers whose vectors are started from data and revived, however they are trained."""

from typing import Any

import torch
from torch import Tensor, nn
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

from dvae.bottlenecks.processes import from_all_processes, from_first_process
from dvae.bottlenecks.quantizer import Quantizer
from dvae.bottlenecks.upkeep import POINTS_PER_CODE, Idle, Once, Upkeep, data_centers, spread_out
from dvae.functional import squared_distance

__all__ = ["TendedQuantizer"]


class TendedQuantizer(Quantizer):
    """One code book, or several of which each quantizes what those before it have left over.

    A start or a revival looks at the first of the batches whose gradients are accumulated, and at
    the features of all processes.

    Args:
        kind: Class of the module, whose vectors do not move by themselves.
        num_codes: K of each code book, at least 2.
        code_dim: D, at least 1.
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
        upkeep: Upkeep,
        depth: int = 1,
        **settings: Any,
    ) -> None:
        settings |= {"codebook_size": num_codes, "sync_codebook": False, "ema_update": False}
        super().__init__(kind, num_codes, code_dim, depth, **settings)
        self.upkeep = upkeep
        self.start = Once()
        limit = 0 if upkeep.frozen else upkeep.revive_after
        self.idle = nn.ModuleList(Idle(num_codes, limit) for _ in range(depth))
        for book in self._books():
            # The library would ask the device in each pass whether its own start, which is off, is
            # still to come.
            book.init_embed_ = _start_nothing

    def _books(self) -> list[Any]:
        return [module for module in self.quantizer.modules() if isinstance(module, Codebook)]

    def _idle(self) -> list[Idle]:
        return [idle for idle in self.idle if isinstance(idle, Idle)]

    def _look_up(self, index: Tensor) -> Tensor:
        codes: Tensor = self.quantizer.get_output_from_indices(index)  # type: ignore[operator]
        return codes

    def _run(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.quantizer.training:
            return super()._run(features)
        self._tend(features)
        code, index, loss = super()._run(features)
        counts = self.count(index).view(self.depth, self.num_codes)
        for idle, count in zip(self._idle(), counts, strict=True):
            idle.add(count)
        self._gather(features, index, counts)
        if not self.accumulates:
            self.step()
        return code, index, loss

    def _points(self, features: Tensor) -> Tensor:
        """Put features ``(B, D, H, W)`` in rows ``(N, D)``, in the order of their integers."""
        return features.detach().flatten(2).mT.flatten(0, 1).to(self.one.dtype)

    def _gather(self, features: Tensor, index: Tensor, counts: Tensor) -> None:
        """Take in the features of a pass, and how many each code has, ``(depth, K)``."""

    def step(self) -> None:
        """Count the step for the codes that are not in use; see `Bottleneck.step`."""
        for idle in self._idle():
            idle.step()

    def skip_step(self) -> None:
        """Forget the uses since the last step; see `Bottleneck.skip_step`."""
        for idle in self._idle():
            idle.skip_step()

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
                self._place(book, centers, torch.ones_like(idle.dead()))
            elif due:
                dead = idle.dead()
                distance = squared_distance(points, vectors[~dead]).amin(-1)
                new = points[spread_out(points, distance, int(dead.sum()))]
                self._place(book, from_first_process(new), dead)
                idle.forgive(dead)
            # What is left over for the next one.
            points = points - vectors[squared_distance(points, vectors).argmin(-1)]

    def _place(self, book: Any, vectors: Tensor, codes: Tensor) -> None:
        """Put codes, booleans ``(K,)``, at vectors; not differentiated."""
        book.embed[0, codes] = vectors


def _start_nothing(*args: Any, **kwargs: Any) -> None:
    pass
