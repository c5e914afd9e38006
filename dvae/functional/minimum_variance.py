"""A hard code with the family of gradients from straight-through to exact on quadratics."""

import torch
from torch import Tensor

from dvae.functional.pull_back import with_pull_back

__all__ = ["minimum_variance", "minimum_variance_gradient"]


def minimum_variance_gradient(
    grad: Tensor, index: Tensor, probs: Tensor, t: Tensor | float
) -> Tensor:
    r"""Apply the transposed matrix :math:`S^\top g` of the estimator, for a draw x.

    Row i of S is :math:`[(1 + t\pi_i) v_i - t\pi_i v_x + t\,1(i = x) J_x] / (1 + t(\pi_i + \pi_x))`
    with J the Jacobian of the softmax and v the solution of
    :math:`A v = \mathrm{diag}(\frac{1 + t\pi}{1 + 2t\pi}) J`, where
    :math:`A_{ij} = -t\pi_i\pi_j / (1 + t(\pi_i + \pi_j))` off the diagonal and
    :math:`A_{ii} = (1 + t\pi_i) \sum_j \pi_j / (1 + t(\pi_i + \pi_j)) - t\pi_i^2 / (1 + 2t\pi_i)`.

    Its mean over :math:`x \sim \pi` is J: exact for linear f at every t. The rows of A sum to
    :math:`\sum_j \pi_j / (1 + t(\pi_i + \pi_j)) > 0` and its off-diagonal is not positive, so it
    is regular, but only just where t is large: the system is solved in float64.

    Args:
        grad: Gradient g at the code, ``(..., K)``.
        index: The draw x, integers ``(...)``.
        probs: Its probabilities :math:`\pi`, ``(..., K)``.
        t: A number, at least 0; 0 is straight-through, towards infinity exact for quadratic f.

    Returns:
        Gradient in the logits, ``(..., K)`` in float64.

    References:
        D. Hooper, A. Shekhovtsov, 2026.
    """
    p, g = probs.double(), grad.double()
    if isinstance(t, Tensor):
        t = t.to(p.dtype)
    drawn = index.unsqueeze(-1)
    weight = 1 / (1 + t * (p + p.gather(-1, drawn)))  # of row i, given the draw
    # S^T g = v^T a + t w_x g_x J_x, so one right-hand side is enough: v^T a = J B A^{-1} a.
    a = weight * (1 + t * p) * g
    a = a.scatter_add(-1, drawn, -(weight * t * p * g).sum(-1, keepdim=True))
    # Not `solve`, which waits for the device to say that no matrix was singular; none is.
    y = torch.linalg.solve_ex(_matrix(p, t), a.unsqueeze(-1)).result.squeeze(-1)
    y = y * (1 + t * p) / (1 + 2 * t * p)
    y = y.scatter_add(-1, drawn, t * (weight * g).gather(-1, drawn))
    gradient: Tensor = p * (y - (p * y).sum(-1, keepdim=True))
    return gradient


def _matrix(p: Tensor, t: Tensor | float) -> Tensor:
    """Write the symmetric matrix A, ``(..., K, K)``."""
    pair = 1 / (1 + t * (p.unsqueeze(-1) + p.unsqueeze(-2)))
    cross = t * p.unsqueeze(-1) * p.unsqueeze(-2) * pair
    diagonal = (1 + t * p) * (pair @ p.unsqueeze(-1)).squeeze(-1)
    return torch.diag_embed(diagonal) - cross


def minimum_variance(
    logits: Tensor, code: Tensor, index: Tensor, probs: Tensor, t: Tensor | float
) -> Tensor:
    """Give a one-hot code the gradient of `minimum_variance_gradient`.

    Args:
        logits: ``(..., K)``, where the gradient goes.
        code: One-hot draws, ``(..., K)``.
        index: The same as integers ``(...)``.
        probs: Their probabilities, ``(..., K)``.
        t: A number, at least 0.

    Returns:
        ``code``, with the gradient.
    """
    # Of a number torch would make float32, and the system is solved in float64.
    t = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    return with_pull_back(code.detach(), logits, minimum_variance_gradient, index, probs, t)
