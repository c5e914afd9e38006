"""What the processes of a run tell one another about a code book; decided at run time."""

import math

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["from_all_processes", "from_first_process", "sum_over_processes"]


def _several() -> bool:
    # At construction there are no processes yet: Lightning makes them later.
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(tensor: Tensor) -> None:
    """Add the values of all processes, in place.

    Args:
        tensor: Tensor of one shape on all, contiguous.
    """
    if _several():
        dist.all_reduce(tensor)


def from_first_process(tensor: Tensor) -> Tensor:
    """Give all processes the values of the first one.

    Args:
        tensor: Tensor of one shape on all; written to in place.
    """
    if _several():
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


@torch.no_grad()
def from_all_processes(points: Tensor, limit: int) -> Tensor:
    """Gather points of all processes, at random where there are more than the limit.

    Args:
        points: ``(N, D)``; N may differ between processes and be 0 on some.
        limit: How many at most, of all processes together (rounded up to an equal share).

    Returns:
        ``(M, D)``, at least in float32, the same on all processes.
    """
    world = dist.get_world_size() if _several() else 1
    share = math.ceil(limit / world)
    points = points.detach()
    points = points if points.dtype == torch.float64 else points.float()
    if len(points) > share:
        points = points[torch.randperm(len(points), device=points.device)[:share]]
    if world == 1:
        return points
    sizes = [torch.zeros(1, dtype=torch.int64, device=points.device) for _ in range(world)]
    dist.all_gather(sizes, torch.full_like(sizes[0], len(points)))
    counts = [int(size) for size in sizes]
    # All send as many rows as the process that has most.
    padded = points.new_zeros(max(counts), points.shape[1])
    padded[: len(points)] = points
    gathered = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[:n] for rows, n in zip(gathered, counts, strict=True)])
