"""How a code book is started from data and kept in use, the same on all processes."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dvae.bottlenecks.processes import from_first_process, sum_over_processes
from dvae.estimators.base import gumbel_noise_like
from dvae.functional import categorical_entropy, kmeans, squared_distance

__all__ = ["Idle", "Once", "Upkeep", "data_centers", "draw_far", "soft_variance", "spread_out"]

# Points that are looked at for each code: more do not move the centers by much.
POINTS_PER_CODE = 64
# Points that are looked at for a variance.
_LOOKED_AT = 4096
# Rounds in which points are drawn far from those before: one a point up to this many points.
_ROUNDS = 32


@dataclass(frozen=True)
class Upkeep:
    """How a code book is started and kept alive.

    Args:
        kmeans: Iterations of k-means on the first training batch's features; 0 starts at random.
        revive_after: Optimizer steps without a use of a code, at any position of any process, after
            which it is moved to where it will be used; 0 for never. It is used where it is the most
            probable; one behind a projection also where it is drawn, if its draws tell something of
            the position. Where less than the square root of K codes are left, a code
            book with a posterior starts anew from the batch at hand.
        frozen: Whether the code book stays as it is after its start: no training, no revival.

    Raises:
        ValueError: A number below 0.
    """

    kmeans: int = 10
    revive_after: int = 100
    frozen: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("kmeans", "revive_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"upkeep.{name} must be >= 0; got {getattr(self, name)}")


class Once(nn.Module):
    """Remembers whether the code book was started from data; part of every checkpoint."""

    done: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.tensor(False))
        self._is_done = False  # the buffer, known without waiting for the device

    def due(self) -> bool:
        """Return whether this is the first call of a run that was not loaded."""
        if self._is_done:
            return False
        due = not bool(self.done)
        self._set(True)
        return due

    def postpone(self) -> None:
        """Make the next call the first: the one that has been had nothing to start from."""
        self._set(False)

    def _set(self, done: bool) -> None:
        self.done.fill_(done)
        self._is_done = done


class Idle(nn.Module):
    """For how many training steps each code has not been used; part of every checkpoint.

    Args:
        num_codes: K.
        limit: Steps after which a code is dead; 0 for never.
    """

    steps: Tensor
    uses: Tensor
    next_look: Tensor
    newer_buffers = ("uses", "next_look")  # than 2026-11-24; without them all begins at 0

    def __init__(self, num_codes: int, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("steps", torch.zeros(num_codes, dtype=torch.int64))
        # Since there was one: in a small batch a code in use is expected less than once.
        self.register_buffer("uses", torch.zeros(num_codes))
        self.register_buffer("next_look", torch.tensor(0))
        self._next_look: int | None = None  # the buffer, known without waiting for the device
        self._of_step: Tensor | None = None
        self.register_load_state_dict_pre_hook(_before_loading)

    @property
    def _counts(self) -> bool:
        return self.limit > 0 and self.training  # not where it is frozen by its name

    def due(self) -> bool:
        """Return whether any code is dead; to be asked in each pass, and never so within a step.

        To look costs a wait for the device, so the next look is when a code could be dead, and not
        before a tenth of the limit has passed: a code is found dead at most that much late.
        """
        if not self._counts or self._of_step is not None:
            return False
        left = (int(self.next_look) if self._next_look is None else self._next_look) - 1
        dead = False
        if left <= 0:
            longest = int(self.steps.max())
            dead = longest >= self.limit
            left = max(self.limit - longest, self.limit // 10, 1)
        self._next_look = left
        self.next_look.fill_(left)
        return dead

    def dead(self) -> Tensor:
        """Return which codes are dead, booleans ``(K,)``."""
        return self.steps >= self.limit

    def forgive(self, codes: Tensor) -> None:
        """Let codes begin anew, or they would be dead again in the next step.

        Args:
            codes: Booleans ``(K,)``.
        """
        self.steps.masked_fill_(codes, 0)
        self.uses.masked_fill_(codes, 0)

    def add(self, uses: Tensor) -> None:
        """Count the uses of one forward pass towards the step that it belongs to.

        Args:
            uses: How often each code was used by this process, or is expected to be, ``(K,)``.
        """
        if self._counts:
            self._of_step = uses.clone() if self._of_step is None else self._of_step + uses

    def step(self) -> None:
        """Count the passes since the last step, of all processes, as one step."""
        uses, self._of_step = self._of_step, None
        if uses is None:
            return
        sum_over_processes(uses)
        self.uses.add_(uses)
        alive = self.uses >= 1
        # A step without features says nothing of any code.
        self.steps.add_(uses.sum() > 0).masked_fill_(alive, 0)
        self.uses.masked_fill_(alive, 0)

    def skip_step(self) -> None:
        """Forget the passes since the last step."""
        self._of_step = None


def _before_loading(idle: Idle, state: dict[str, Any], prefix: str, *args: Any) -> None:
    for name in idle.newer_buffers:
        state.setdefault(prefix + name, torch.zeros_like(getattr(idle, name)))
    idle._next_look = None


def draw_far(distance: Tensor, count: int) -> Tensor:
    """Draw points without putting back, with probabilities in proportion to ``distance (N,)``.

    Args:
        distance: At least 0.
        count: At most N.

    Returns:
        Which, ``(count,)``.
    """
    # The arg-max of Gumbel noise on the logarithm is a draw; the largest n are n draws.
    return (distance.log() + gumbel_noise_like(distance)).topk(count).indices


@torch.no_grad()
def spread_out(points: Tensor, distance: Tensor, count: int) -> Tensor:
    """Draw points one after another, each the more probable the farther from all before.

    Many are drawn in rounds of several. Where there are too few points they are drawn again, a
    little off.

    Args:
        points: ``(N, D)``, N at least 1.
        distance: Squared distance of each point to the nearest code there is, ``(N,)``; all ones
            where there is none.
        count: How many to draw, at least 1.

    Returns:
        Which points were drawn, ``(count,)``.

    References:
        D. Arthur, S. Vassilvitskii, 2007, *k-means++*; B. Bahmani et al., 2012, arXiv 1203.6402.
    """
    chosen: list[Tensor] = []
    left, share = count, min(math.ceil(count / _ROUNDS), len(points))
    while left:
        # What was drawn has no distance left, and comes last.
        new = draw_far(distance, min(share, left))
        distance = torch.minimum(distance, squared_distance(points, points[new]).amin(-1))
        distance[new] = 0
        chosen.append(new)
        left -= len(new)
    return torch.cat(chosen)


@torch.no_grad()
def data_centers(points: Tensor, num_centers: int, iterations: int) -> Tensor:
    """Find centers of points by k-means that starts at points far from one another.

    Args:
        points: ``(N, D)``. Where N is below ``num_centers``, centers share points, a little apart.
        num_centers: K.
        iterations: Iterations of Lloyd's algorithm.

    Returns:
        ``(K, D)``, the same on all processes: those of the first one.
    """
    start = points[spread_out(points, torch.ones_like(points[:, 0]), num_centers)]
    if len(points) < num_centers:
        start = start + 0.01 * points.std() * torch.randn_like(start)
    return from_first_process(kmeans(points, start, iterations))


def soft_variance(points: Tensor, centers: Tensor, most: Tensor | None = None) -> Tensor:
    r"""Find the variance at which points say little about their center, by bisection.

    The posterior over the centers of equal Gaussians has a perplexity of :math:`\sqrt K` on
    average. With the variance of maximum likelihood, in many dimensions, each point would belong
    to one center alone: the first steps could not tell neighbours apart, and most codes would die.

    Args:
        points: ``(N, D)``; some thousands are looked at.
        centers: ``(K, D)``, K at least 2.
        most: A variance that is returned where it is no larger than the one looked for, which one
            look tells; the bisection takes thirty.

    Returns:
        A scalar above 0, the same on all processes: that of the first one.
    """
    distance = squared_distance(points[:_LOOKED_AT].to(centers.dtype), centers)
    entropy = 0.5 * math.log(len(centers))

    def too_sharp(log_variance: Tensor) -> Tensor:
        return categorical_entropy(-0.5 * distance * (-log_variance).exp()).mean() < entropy

    if most is not None and bool(too_sharp(most.log())):
        return from_first_process(most.clone())
    scale = distance.mean().clamp_min(1e-12).log()
    low, high = scale - 20.0, scale + 20.0
    for _ in range(30):
        middle = (low + high) / 2
        sharp = too_sharp(middle)
        low, high = torch.where(sharp, middle, low), torch.where(sharp, high, middle)
    return from_first_process(((low + high) / 2).exp())
