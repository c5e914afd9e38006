"""What the estimators for two categories share: log-odds in, one-hot pairs out."""

import torch
from torch import Tensor

from dvae.estimators.base import check_draw, check_logits

__all__ = ["log_odds", "pair_codes", "pair_gradient"]


def log_odds(name: str, logits: Tensor) -> Tensor:
    """Reduce two logits to the log-odds of the second category.

    Args:
        name: Name of the estimator, for the message.
        logits: ``(..., 2)``.

    Returns:
        ``(...)`` in float32 or float64, without a gradient; infinite where one is forbidden.

    Raises:
        ValueError: K is not 2, or a row has no finite maximum.
    """
    theta = check_logits(logits).detach()
    if theta.shape[-1] != 2:
        raise ValueError(
            f"{name} is for binary variables, K = 2 categories; got K = {theta.shape[-1]}"
        )
    check_draw(theta, theta.argmax(-1))
    return theta[..., 1] - theta[..., 0]


def pair_codes(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Write bits ``(...)`` as one-hot pairs ``(..., 2)``."""
    return torch.stack([~bits, bits], -1).to(dtype)


def pair_gradient(gradient: Tensor) -> Tensor:
    """Turn a gradient in the log-odds, ``(...)``, into one in both logits, ``(..., 2)``."""
    return torch.stack([-gradient, gradient], -1)
