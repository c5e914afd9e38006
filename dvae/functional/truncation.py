"""Logits that are made sharper or cut before a draw, as samplers of language models do."""

import torch
from torch import Tensor

__all__ = ["truncate_logits"]


def truncate_logits(
    logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Divide logits by a temperature, and forbid all but the most probable categories.

    Args:
        logits: Unnormalised log-probabilities ``(..., K)``.
        temperature: Divisor, above 0; below 1 sharpens.
        top_k: Categories that are left, the most probable ones; 0 for all.
        top_p: Probability that is left at least, in (0, 1], of the fewest most probable categories
            that have it together.

    Returns:
        Logits ``(..., K)``, ``-inf`` where a category is forbidden; one at least is left.

    References:
        A. Fan, M. Lewis, Y. Dauphin, 2018, arXiv 1805.04833 (top-k); A. Holtzman, J. Buys, L. Du,
        M. Forbes, Y. Choi, 2020, arXiv 1904.09751, section 3.1 (top-p).
    """
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        # By place and not by value: of categories that are alike no more than top_k stay.
        best = logits.topk(top_k, -1).indices
        logits = torch.full_like(logits, -torch.inf).scatter(-1, best, logits.gather(-1, best))
    if top_p < 1:
        ordered, place = logits.sort(-1, descending=True)
        probs = ordered.softmax(-1)
        # What comes before a category has less than top_p: so the first one always stays.
        beyond = probs.cumsum(-1) - probs >= top_p
        logits = logits.masked_fill(beyond.gather(-1, place.argsort(-1)), -torch.inf)
    return logits
