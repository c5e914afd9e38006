"""What all score-function estimators share: exact draws, their scores, f at them."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dvae.estimators.base import Integrand, check_logits, draw_index
from dvae.functional import attach_gradient, leave_one_out_advantage, one_hot_like, softmax

__all__ = ["ExactDraws", "draw_codes", "evaluate", "leave_one_out", "score_gradient"]


@dataclass(frozen=True)
class ExactDraws:
    """Exact draws.

    Attributes:
        one_hot: ``(S, B, ..., K)`` in the dtype of the logits.
        probs: Probabilities they were drawn with, ``(B, ..., K)`` in float32 or float64.
    """

    one_hot: Tensor
    probs: Tensor


def draw_codes(logits: Tensor, samples: int, generator: Generator | None = None) -> ExactDraws:
    """Draw exactly from the categoricals.

    Args:
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        samples: S.
        generator: Source of the noise; the global generator by default.
    """
    theta = check_logits(logits).detach()
    copies = theta.unsqueeze(0).expand(samples, *theta.shape)
    index = draw_index(copies, generator)
    like = logits.detach().unsqueeze(0).expand(samples, *theta.shape)
    return ExactDraws(one_hot_like(like, index), softmax(theta.detach()))


def evaluate(f: Integrand, codes: Tensor) -> Tensor:
    """Evaluate f and check what it returns.

    Args:
        f: Takes codes ``(S, B, ..., K)``, returns ``(S, B)``.
        codes: ``(S, B, ..., K)``.

    Raises:
        ValueError: f returned another shape.
    """
    values = f(codes)
    if values.shape != codes.shape[:2]:
        raise ValueError(
            f"f must return one value for each code, {tuple(codes.shape[:2])}; got "
            f"{tuple(values.shape)}"
        )
    return values


def score_gradient(codes: ExactDraws, advantage: Tensor) -> Tensor:
    r"""Sum :math:`a_s (D_s - \pi)` over the draws.

    Args:
        codes: The draws.
        advantage: Weights a, ``(S, B)``.

    Returns:
        Gradient in the logits, ``(B, ..., K)``.
    """
    a = advantage.detach().to(codes.probs.dtype)
    a = a.reshape(*a.shape, *(1,) * (codes.probs.dim() - 1))
    return (a * codes.one_hot).sum(0) - a.sum(0) * codes.probs


def leave_one_out(
    f: Integrand, logits: Tensor, samples: int, generator: Generator | None = None
) -> Tensor:
    """Estimate E[f] with the mean of the other draws as control variate.

    Args:
        f: Takes codes ``(S, B, ..., K)``, returns ``(S, B)``.
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        samples: S, at least 2.
        generator: Source of the noise; the global generator by default.

    Returns:
        The mean of f over the draws, ``(B,)``, with the gradient in the logits.
    """
    codes = draw_codes(logits, samples, generator)
    values = evaluate(f, codes.one_hot)
    with torch.no_grad():
        advantage = leave_one_out_advantage(values.to(codes.probs.dtype)) / samples
        gradient = score_gradient(codes, advantage)
    return attach_gradient(values.mean(0), logits, gradient)
