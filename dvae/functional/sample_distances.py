"""How far two samples of features are apart: as Gaussians, and by whose neighbours they are."""

import torch
from torch import Tensor

__all__ = ["frechet_distance", "precision_recall"]

# Rows compared at once: bounds the extra memory to some 100 megabytes.
_ROWS = 1024


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared 2-Wasserstein distance of the Gaussians fitted to two samples.

    .. math:: |\mu_a - \mu_b|^2 + \mathrm{tr}(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2})

    Args:
        a: Features ``(N, D)``, N at least 2.
        b: Features ``(M, D)``, M at least 2.

    Returns:
        ``()`` in float64, at least 0 but for rounding.

    References:
        M. Heusel et al., 2017, arXiv 1706.08500, eq. 6.
    """
    a, b = a.double(), b.double()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    first, second = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross: Tensor = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return shift + first.trace() + second.trace() - 2 * cross


def precision_recall(real: Tensor, made: Tensor, neighbours: int = 3) -> tuple[Tensor, Tensor]:
    """Share of each of two samples that lies among the other one.

    A point lies among a sample where it is as near to one of its points as that one's k-th
    neighbour in the sample is.

    Args:
        real: Features ``(N, D)``, N above k.
        made: Features ``(M, D)``, M above k.
        neighbours: The k, at least 1.

    Returns:
        Precision, the share of ``made`` that lies among ``real``, and recall, that of ``real``
        among ``made``; each ``()`` in [0, 1].

    References:
        T. Kynkäänniemi et al., 2019, arXiv 1904.06991, eq. 1 and 2.
    """
    return _share_among(made, real, neighbours), _share_among(real, made, neighbours)


def _share_among(points: Tensor, sample: Tensor, neighbours: int) -> Tensor:
    # The nearest to a point of the sample is the point itself.
    reach = [
        torch.cdist(rows, sample).kthvalue(neighbours + 1).values for rows in sample.split(_ROWS)
    ]
    radius = torch.cat(reach)
    among = [(torch.cdist(rows, sample) <= radius).any(1) for rows in points.split(_ROWS)]
    return torch.cat(among).double().mean()
