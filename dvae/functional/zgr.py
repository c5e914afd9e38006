"""A hard code with the gradient of zeroth and first order averaged: ZGR."""

from torch import Tensor

from dvae.functional.pull_back import with_pull_back

__all__ = ["zgr"]


def zgr(logits: Tensor, code: Tensor, probs: Tensor) -> Tensor:
    r"""Give a code the gradient :math:`\frac12[J(\pi) g + (g^\top(D - \pi))(D - \pi)]`.

    Args:
        logits: ``(..., K)``, where the gradient goes.
        code: One-hot draws D, ``(..., K)``.
        probs: Their probabilities :math:`\pi`, ``(..., K)``.

    Returns:
        ``code``, with the gradient.

    References:
        A. Shekhovtsov, 2023, *Cold analysis of Rao-Blackwellized straight-through
        Gumbel-softmax gradient estimator*, ICML.
    """
    return with_pull_back(code.detach(), logits, _mean_of_both, code, probs)


def _mean_of_both(grad: Tensor, code: Tensor, p: Tensor) -> Tensor:
    g = grad.to(p.dtype)
    score = code - p
    # g^T p and g^T (D - p) give both terms: J(p) g = p g - p (p^T g).
    mean = (p * g).sum(-1, keepdim=True)
    excess = (score * g).sum(-1, keepdim=True)
    return 0.5 * (p * (g - mean) + excess * score)
