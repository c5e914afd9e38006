"""How a code book is started from data and kept in use, the same on all processes."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dvae.functional import kmeans

__all__ = ["Idle", "Upkeep", "data_centers", "from_first_process"]

# Points that k-means looks at, for each center: more do not move the centers by much.
_POINTS_PER_CENTER = 64


@dataclass(frozen=True)
class Upkeep:
    """How a code book is started and kept alive.

    Args:
        kmeans: Iterations of k-means on the first training batch's features; 0 starts at random.
        revive_after: Training steps in a row in which no position of any process chose a code,
            after which it is moved to where it will be chosen; 0 for never.
        frozen: Whether the code book stays as it is after its start: no gradient, no revival.

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


class Idle(nn.Module):
    """For how many training steps each code has not been chosen; part of every checkpoint.

    Args:
        num_codes: K.
        limit: Steps after which a code is dead; 0 for never.
    """

    steps: Tensor

    def __init__(self, num_codes: int, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("steps", torch.zeros(num_codes, dtype=torch.int64))
        self._next_look = 0

    def due(self) -> bool:
        """Return whether any code is dead; to be asked once a step.

        To look costs a wait for the device, so the next look is when a code could be dead.
        """
        if not self.limit:
            return False
        self._next_look -= 1
        if self._next_look > 0:
            return False
        longest = int(self.steps.max())
        self._next_look = max(self.limit - longest, 1)
        return longest >= self.limit

    def dead(self) -> Tensor:
        """Return which codes are dead, booleans ``(K,)``."""
        return self.steps >= self.limit

    def forgive(self, codes: Tensor) -> None:
        """Let codes begin anew, or they would be dead again in the next step.

        Args:
            codes: Booleans ``(K,)``.
        """
        self.steps.masked_fill_(codes, 0)

    def count(self, counts: Tensor) -> None:
        """Take in a step.

        Args:
            counts: How often each code was chosen by this process, integers ``(K,)``.
        """
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
        self.steps.add_(1).masked_fill_(counts > 0, 0)


def from_first_process(tensor: Tensor) -> Tensor:
    """Give all processes the values of the first one.

    Args:
        tensor: Of the same shape on all; written to in place.
    """
    if dist.is_available() and dist.is_initialized():
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


@torch.no_grad()
def data_centers(points: Tensor, num_centers: int, iterations: int) -> Tensor:
    """Find centers of points by k-means that starts at points drawn at random.

    Args:
        points: ``(N, D)``. Where N is below ``num_centers``, centers share points, a little apart.
        num_centers: K.
        iterations: Of Lloyd's algorithm.

    Returns:
        ``(K, D)``, the same on all processes: those of the first one.
    """
    limit = num_centers * _POINTS_PER_CENTER
    order = torch.randperm(len(points), device=points.device)[:limit]
    points = points.detach().float()[order]
    start = points[torch.arange(num_centers, device=points.device) % len(points)]
    if len(points) < num_centers:
        start = start + 0.01 * points.std() * torch.randn_like(start)
    return from_first_process(kmeans(points, start, iterations))
