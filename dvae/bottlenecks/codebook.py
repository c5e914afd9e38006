"""A categorical posterior over a code book at each position of a grid."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvae.bottlenecks.base import refuse_prior
from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.posterior import CategoricalPosterior, Posterior
from dvae.bottlenecks.processes import from_all_processes, from_first_process
from dvae.bottlenecks.upkeep import POINTS_PER_CODE, Idle, Once, Upkeep
from dvae.estimators.base import Estimator
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.priors.base import Prior
from dvae.scalars import check_count

__all__ = ["CodebookBottleneck", "rows_of"]

RevivePrior = Callable[[Tensor, bool], list[Tensor]]
"""As `Prior.revive`."""

# Probabilities that are looked at in a step for which codes are in use: a small part of it.
_NOTED = 2**18


class CodebookBottleneck(GridBottleneck):
    """Each position picks one of K vectors of D numbers, which the decoder sees.

    What is drawn, relaxed and differentiated is the categorical of each position, by the same
    estimators as elsewhere; a relaxed code is a mixture of vectors. Subclasses say where the logits
    come from.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        learned_prior: No longer here: the prior is the model's, see `dvae.priors`.
        upkeep: How the code book is started and kept alive.

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(
        self,
        num_codes: int,
        code_dim: int,
        estimator: Estimator | None,
        learned_prior: bool,
        upkeep: Upkeep,
    ) -> None:
        super().__init__()
        refuse_prior("bottleneck.learned_prior", learned_prior)
        check_count("num_codes", num_codes, 2)
        check_count("code_dim", code_dim, 1)
        self.num_codes = num_codes
        self.code_features = code_dim
        self.counts_shape = (num_codes,)
        self.estimator = GumbelSoftmax(hard=True) if estimator is None else estimator
        self.upkeep = upkeep
        self.idle = Idle(num_codes, 0 if upkeep.frozen else upkeep.revive_after)
        self.codebook = nn.Parameter(
            torch.randn(num_codes, code_dim), requires_grad=not upkeep.frozen
        )
        self.start = Once()
        self._moved: dict[int, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def _logits(self, rows: Tensor) -> Tensor:
        """Turn features ``(..., in_features)`` in float32 into logits ``(..., K)``."""

    @abstractmethod
    def _start(self, points: Tensor) -> list[Tensor]:
        """Start from features ``(N, in_features)`` of a batch; not differentiated.

        All processes come here in the same step with the same points.

        Returns:
            The tables that have a row for each code; those of the first process are for all.
        """

    @abstractmethod
    def _revive(self, points: Tensor, dead: Tensor) -> list[Tensor]:
        """Move the dead codes ``(K,)`` to where they will be used; not differentiated.

        All processes come here in the same step with the same points.

        Returns:
            The tables whose rows of dead codes are new; those of the first process are for all.
        """

    def _penalty(self, rows: Tensor, logits: Tensor) -> Tensor | None:
        """Return an auxiliary loss per example ``(B,)``; there is none by default."""
        return None

    # The bottleneck

    def forward(self, features: Tensor, prior: Prior | None = None) -> Posterior:
        """Make the posterior of a batch; see `Bottleneck.forward`."""
        rows = rows_of(features)
        logits = self.tended_logits(rows, None if prior is None else prior.revive)
        return CategoricalPosterior(logits, self.estimator, self.mix, self._penalty(rows, logits))

    def tended_logits(self, rows: Tensor, revive: RevivePrior | None) -> Tensor:
        """Return the logits of a batch; in training, start, revive and count codes as well.

        Args:
            rows: Features ``(B, *positions, in_features)``, at least in float32.
            revive: What tells the prior of revived codes, as `Prior.revive`; nothing by default.
        """
        if self.training:
            self._tend(rows, revive)
        logits = self._logits(rows)
        if self.training:
            self._note(logits.flatten(0, -2))
        return logits

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., H, W)``: vectors ``(..., D, H, W)``."""
        return F.embedding(index, self.codebook).movedim(-1, -1 - self.axes)

    def mix(self, code: Tensor) -> Tensor:
        """Mix the vectors by codes ``(..., H, W, K)``: ``(..., D, H, W)``."""
        # Not under autocast: a code is worth the same drawn, mixed and looked up.
        with torch.autocast(code.device.type, enabled=False):
            vectors = code @ self.codebook.to(code.dtype)
        return vectors.movedim(-1, -1 - self.axes)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_codes={self.num_codes}, code_dim={self.code_features}, upkeep={self.upkeep}"

    # Details

    @torch.no_grad()
    def _note(self, rows: Tensor, logits: Callable[[Tensor], Tensor] | None = None) -> None:
        """Take in which codes are in use, by some of the positions where there are many.

        Args:
            rows: Logits ``(N, K)``, or what gives them ``(N, in_features)``.
            logits: What turns rows into logits, where they are not.
        """
        if not self.idle.limit:
            return
        some = rows[:: max(1, math.ceil(len(rows) * self.num_codes / _NOTED))]
        uses = self._uses(some if logits is None else logits(some))
        self.idle.add(uses * (len(rows) / max(1, len(some))))
        if not self.accumulates:
            self.step()

    def _uses(self, logits: Tensor) -> Tensor:
        """Tell how often each code is in use, ``(K,)``, from logits ``(N, K)``."""
        return self.count(logits.argmax(-1)).to(logits.dtype)

    @torch.no_grad()
    def _tend(self, rows: Tensor, revive_prior: RevivePrior | None) -> None:
        start = self.start.due() and self.upkeep.kmeans > 0
        revive = self.idle.due()
        if start or revive:
            # Not under autocast, as `_logits`: what is started from has all its digits.
            with torch.autocast(rows.device.type, enabled=False):
                self._renew(rows, start, revive, revive_prior)

    def _renew(
        self, rows: Tensor, start: bool, revive: bool, revive_prior: RevivePrior | None
    ) -> None:
        points = from_all_processes(rows.flatten(0, -2), POINTS_PER_CODE * self.num_codes)
        if not len(points):
            if start:
                self.start.postpone()
            return
        if start:
            self._start(points)
        if revive:
            dead = self.idle.dead()
            alive = self.num_codes - int(dead.sum())
            # Fewer tell of a position less than the soft posteriors of a start do; and features
            # that have gathered around them are too near to one another to be told apart again.
            anew = alive < math.sqrt(self.num_codes)
            dead = torch.ones_like(dead) if anew else dead
            tables = self._start(points) if anew else self._revive(points, dead)
            if revive_prior is not None:
                tables += revive_prior(dead, anew)
            for table in tables:
                from_first_process(table.data)
                before = self._moved.get(id(table), (table, torch.zeros_like(dead)))[1]
                self._moved[id(table)] = (table, dead | before)
            self.idle.forgive(dead)

    def step(self) -> None:
        """Count the step for the codes that are not in use; see `Bottleneck.step`."""
        self.idle.step()

    def skip_step(self) -> None:
        """Forget the uses since the last step; see `Bottleneck.skip_step`."""
        self.idle.skip_step()

    def take_moved(self) -> list[tuple[Tensor, Tensor]]:
        """Return the rows of revived codes; see `Bottleneck.take_moved`."""
        moved, self._moved = list(self._moved.values()), {}
        return moved


def rows_of(features: Tensor) -> Tensor:
    """Put the channels last, at least in float32: distances and draws need its digits.

    Args:
        features: ``(B, in_features, H, W)``.

    Returns:
        ``(B, H, W, in_features)``.
    """
    rows = features.movedim(1, -1)
    return rows if rows.dtype == torch.float64 else rows.float()
