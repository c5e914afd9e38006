"""A categorical posterior over a code book at each position of a grid."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import BottleneckOutput, Expectation
from dvae.bottlenecks.grid import GridBottleneck
from dvae.bottlenecks.processes import from_all_processes, from_first_process
from dvae.bottlenecks.upkeep import POINTS_PER_CODE, Idle, Once, Upkeep
from dvae.estimators.base import Estimator, PathwiseEstimator, check_count, gumbel_noise_like
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.functional import categorical_kl, categorical_log_prob, gumbel_max

__all__ = ["CodebookBottleneck", "rows_of"]

# Numbers of noise or logits at once; a grid of 32x32 positions of 8,192 codes has half as many.
_NOISE = 2**24
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
        learned_prior: Whether the prior over codes is learned; else it is uniform.
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
        # Not read off the parameter: a learned prior may be frozen.
        self.learned_prior = learned_prior
        self.prior_logits = nn.Parameter(torch.zeros(num_codes), requires_grad=learned_prior)
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

    def _penalty(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Return an auxiliary loss per example ``(B,)``; there is none by default."""
        return logits.new_zeros(len(logits))

    # The bottleneck

    def forward(self, features: Tensor) -> BottleneckOutput:
        """Return the code of a pathwise estimator's layer; see `Bottleneck.forward`."""
        rows, logits = self._observe(features)
        if isinstance(self.estimator, PathwiseEstimator):
            draw = self.estimator(logits)
            code, index = self._mix(draw.code), draw.index
        elif self.training:
            raise TypeError(
                f"{type(self.estimator).__name__} gives a gradient only through expectation(f, "
                "...), not as a layer"
            )
        else:
            index = logits.argmax(-1)
            code = self.embed(index)
        return BottleneckOutput(code, index, logits, self._kl(logits), self._penalty(rows, logits))

    def expectation(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        generator: Generator | None = None,
    ) -> Expectation:
        """Let the estimator evaluate f on codes; see `Bottleneck.expectation`."""
        rows, logits = self._observe(features)
        value = self.estimator.expectation(lambda code: f(self._mix(code)), logits, generator)
        return Expectation(value, self._kl(logits), self._penalty(rows, logits))

    def bound(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        samples: int,
        generator: Generator | None = None,
    ) -> Tensor:
        """Weigh f by prior over posterior; see `Bottleneck.bound`. No auxiliary loss takes part."""
        _, logits = self._observe(features)
        log_ratio = self.log_prior_probs - logits.log_softmax(-1)

        def log_weight(code: Tensor) -> Tensor:
            # Linear in the code, so that relaxed codes have a weight too.
            return f(self._mix(code)) + (code * log_ratio).flatten(2).sum(-1)

        return self.estimator.bound(log_weight, logits, samples, generator)

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits ``(B, H, W, K)`` of features ``(B, in_features, H, W)``."""
        return self._logits(rows_of(features))

    def kl(self, features: Tensor) -> Tensor:
        """Sum the exact KL over the positions; see `Bottleneck.kl`."""
        return self._kl(self.logits(features))

    def draw(self, features: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max, ``(S, B, H, W)``; see `Bottleneck.draw`."""
        logits = self.logits(features).unsqueeze(1).expand(-1, samples, -1, -1, -1)
        # In parts, which leaves the stream of noise as it is and bounds the memory.
        images = max(1, _NOISE // math.prod(logits.shape[1:]))
        parts = [gumbel_max(x, gumbel_noise_like(x, generator)) for x in logits.split(images)]
        return torch.cat(parts).transpose(0, 1)

    def mode(self, features: Tensor) -> Tensor:
        """Return the arg-max, ``(B, H, W)``."""
        rows = rows_of(features)
        # In parts, which bounds the memory.
        parts = rows.flatten(0, -2).split(max(1, _NOISE // self.num_codes))
        return torch.cat([self._logits(x).argmax(-1) for x in parts]).view(rows.shape[:-1])

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., H, W)``: vectors ``(..., D, H, W)``."""
        return rearrange(F.embedding(index, self.codebook), "... h w d -> ... d h w")

    def log_posterior(self, features: Tensor, index: Tensor) -> Tensor:
        """Sum log q over the positions; see `Bottleneck.log_posterior`."""
        return categorical_log_prob(self.logits(features), index).flatten(2).sum(-1)

    @property
    def log_prior_probs(self) -> Tensor:
        """Log-probability of each code, ``(K,)``."""
        if not self.learned_prior:
            # Not by a softmax of zeros, whose rounding would be summed over the positions.
            return torch.full_like(self.prior_logits, -math.log(self.num_codes))
        return self.prior_logits.log_softmax(-1)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_codes={self.num_codes}, code_dim={self.code_features}, upkeep={self.upkeep}"

    # Details

    def _observe(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute rows and logits; in training, start, revive and count as well."""
        rows = rows_of(features)
        if not self.training:
            return rows, self._logits(rows)
        self._tend(rows)
        logits = self._logits(rows)
        self._note(logits.flatten(0, -2))
        return rows, logits

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
    def _tend(self, rows: Tensor) -> None:
        start = self.start.due() and self.upkeep.kmeans > 0
        revive = self.idle.due()
        if start or revive:
            # Not under autocast, as `_logits`: what is started from has all its digits.
            with torch.autocast(rows.device.type, enabled=False):
                self._renew(rows, start, revive)

    def _renew(self, rows: Tensor, start: bool, revive: bool) -> None:
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
            if self.prior_logits.requires_grad:
                # The prior has learned that the code is never chosen, which would undo it.
                self.prior_logits[dead] = 0.0 if anew else self.prior_logits[~dead].mean()
                tables.append(self.prior_logits)
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

    def _mix(self, code: Tensor) -> Tensor:
        """Mix the vectors by codes ``(..., H, W, K)``: ``(..., D, H, W)``."""
        # Not under autocast: a code is worth the same drawn, mixed and looked up.
        with torch.autocast(code.device.type, enabled=False):
            vectors = code @ self.codebook.to(code.dtype)
        return rearrange(vectors, "... h w d -> ... d h w")

    def _kl(self, logits: Tensor) -> Tensor:
        return categorical_kl(logits, self.log_prior_probs).flatten(1).sum(1)


def rows_of(features: Tensor) -> Tensor:
    """Put the channels last, at least in float32: distances and draws need its digits.

    Args:
        features: ``(B, in_features, H, W)``.

    Returns:
        ``(B, H, W, in_features)``.
    """
    rows = rearrange(features, "b c h w -> b h w c")
    return rows if rows.dtype == torch.float64 else rows.float()
