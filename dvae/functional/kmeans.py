"""Distances to a code book, and Lloyd's k-means to start one from data."""

import torch
from torch import Tensor

from dvae.functional.categorical import count_categories

__all__ = ["kmeans", "squared_distance"]


def squared_distance(points: Tensor, centers: Tensor) -> Tensor:
    r"""Squared distances :math:`\|z\|^2 - 2 z^\top e_k + \|e_k\|^2` of points to all centers.

    The origin is moved to the mean of the centers: what counts is how far apart they all are, and
    not how far from 0, of which the difference of large squares would lose the digits.

    Args:
        points: ``(..., D)``.
        centers: ``(K, D)``, K at least 1.

    Returns:
        ``(..., K)``, at least 0 and at least in float32, under autocast too.
    """
    dtype = torch.promote_types(torch.promote_types(points.dtype, centers.dtype), torch.float32)
    with torch.autocast(points.device.type, enabled=False):
        points, centers = points.to(dtype), centers.to(dtype)
        # A constant: that distances do not depend on it, their gradient need not find out.
        origin = centers.detach().mean(0)
        points, centers = points - origin, centers - origin
        square = points.square().sum(-1, keepdim=True) + centers.square().sum(-1)
        # Rounding may leave it a little below 0; the clamp would stop the gradient there, not at 0.
        return (square - 2 * points @ centers.mT).clamp_min(0)


@torch.no_grad()
def kmeans(points: Tensor, centers: Tensor, iterations: int) -> Tensor:
    """Move centers to the means of the points that are nearest to them.

    Args:
        points: ``(N, D)``.
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
    # Sums of many points keep their digits where these are far from 0.
    origin = points.mean(0)
    points = points - origin
    for _ in range(iterations):
        nearest = squared_distance(points, centers - origin).argmin(-1)
        count = count_categories(nearest, len(centers)).unsqueeze(1)
        total = torch.zeros_like(centers).index_add_(0, nearest, points)
        centers = torch.where(count > 0, total / count.clamp_min(1) + origin, centers)
    return centers.to(dtype)
