"""How well a linear map reads the label from the code."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["probe_accuracy"]

# Codes that the map is fitted to: the work grows with their cube.
_FITTED = 2000


def probe_accuracy(index: Tensor, label: Tensor, ridge: float = 1.0) -> float | None:
    r"""Fit a ridge regression of the classes on one-hot codes, and test it on other codes.

    Every other example is fitted to, at most 2,000 of them, and the rest is tested on. Where there
    are more coefficients than examples, as with a large code book, it is solved in its dual form,
    in which codes matter by the number of positions at which two agree. Nothing is drawn.

    Args:
        index: Integers ``(N, *positions)``.
        label: Classes ``(N,)``, integers.
        ridge: Weight :math:`\lambda` of the squared coefficients, above 0.

    Returns:
        The fraction of the tested labels that are the highest class, or ``None`` where there are
        fewer than four examples or only one class is fitted to.
    """
    rows = index.flatten(1)
    fitted = torch.arange(len(rows))[::2][:_FITTED]
    tested = torch.ones(len(rows), dtype=torch.bool).index_fill(0, fitted, False)
    classes, target = label[fitted].unique(return_inverse=True)
    if len(rows) < 4 or len(classes) < 2:
        return None
    known, other = rows[fitted], rows[tested]
    one_hot = F.one_hot(target).double()
    offset = one_hot.mean(0)
    codes = int(rows.max()) + 1
    if rows.shape[1] * codes < len(known):
        a, b = (F.one_hot(part, codes).flatten(1).double() for part in (known, other))
        scores = b @ _solve(a.T @ a, a.T @ (one_hot - offset), ridge)
    else:
        weights = _solve(_agreements(known, known), one_hot - offset, ridge)
        scores = _agreements(other, known) @ weights
    guess = classes[(scores + offset).argmax(-1)]
    return float((guess == label[tested]).double().mean())


def _solve(matrix: Tensor, right: Tensor, ridge: float) -> Tensor:
    matrix.diagonal().add_(ridge)
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))


def _agreements(a: Tensor, b: Tensor) -> Tensor:
    """Count the positions at which codes ``(N, P)`` and ``(M, P)`` agree, ``(N, M)``."""
    # Integers up to 2^24 are exact in float32, and so are the counts of those that differ.
    return a.shape[1] - torch.cdist(a.float(), b.float(), p=0.0).double()
