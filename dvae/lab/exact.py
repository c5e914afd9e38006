r"""The true gradient of an expectation over codes, by visiting every code."""

import torch
from torch import Tensor

from dvae.estimators import ExactEnumeration
from dvae.estimators.base import Integrand

__all__ = ["CHUNK", "MAX_STATES", "exact_gradient"]

MAX_STATES = 2**14
"""The most codes of an example that the lab visits: room for 4^7 and for 10^4."""

CHUNK = 8192
"""Codes that f is evaluated at in one call, about: it bounds the memory."""


def exact_gradient(f: Integrand, logits: Tensor, max_states: int = MAX_STATES) -> Tensor:
    r"""Return :math:`\nabla_\theta E_{q_\theta}[f(z)]` of each example.

    Args:
        f: Takes codes ``(S, B, ..., K)``, returns nats ``(S, B)``; the value of an example depends
            on its own code only.
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        max_states: The most codes an example may have.

    Returns:
        Nats per unit of logit, ``(B, ..., K)``.

    Raises:
        ValueError: An example has more codes than ``max_states``.

    Example:
        >>> def first(code):
        ...     return code[..., 0, 0]
        >>> exact_gradient(first, torch.zeros(1, 1, 2))
        tensor([[[ 0.2500, -0.2500]]])
    """

    def in_chunks(codes: Tensor) -> Tensor:
        rows = max(1, CHUNK // max(1, len(logits)))
        with torch.no_grad():
            return torch.cat([f(part) for part in codes.split(rows)])

    estimator = ExactEnumeration(max_states)
    leaf = logits.detach().clone().requires_grad_()
    value = estimator.expectation(in_chunks, leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return gradient
