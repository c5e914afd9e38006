"""Distances to a code book, and Lloyd's k-means to start one from data."""

import torch
from torch import Tensor

from dvae.functional.categorical import count_categories

__all__ = ["kmeans", "squared_distance"]


def squared_distance(points: Tensor, centers: Tensor) -> Tensor:
    r"""Squared distances :math:`\|z\|^2 - 2 z^\top e_k + \|e_k\|^2` of points to all centers.

    Args:
        points: ``(..., D)``.
        centers: ``(K, D)``.

    Returns:
        ``(..., K)``, at least 0.
    """
    square = points.square().sum(-1, keepdim=True) + centers.square().sum(-1)
    # Rounding may leave it a little below 0; the clamp would stop the gradient there, not at 0.
    return (square - 2 * points @ centers.mT).clamp_min(0)


@torch.no_grad()
def kmeans(points: Tensor, centers: Tensor, iterations: int) -> Tensor:
    """Move centers to the means of the points that are nearest to them.

    Args:
        points: ``(N, D)``, N at least 1.
        centers: Where they start, ``(K, D)``. One without points stays where it is.
        iterations: How often, at least 0.

    Returns:
        ``(K, D)``.

    References:
        S. Lloyd, 1982, *Least squares quantization in PCM*.
    """
    dtype = centers.dtype
    # A sum of many points leaves the range of float16, and a square sooner.
    points, centers = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (points, centers))
    for _ in range(iterations):
        nearest = squared_distance(points, centers).argmin(-1)
        count = count_categories(nearest, len(centers)).unsqueeze(1)
        total = torch.zeros_like(centers).index_add_(0, nearest, points)
        centers = torch.where(count > 0, total / count.clamp_min(1), centers)
    return centers.to(dtype)
