"""Exact quantities of categorical distributions, in nats, and code usage from counts."""

from typing import Any

import torch
from torch import Tensor

from dvae.functional.transformable import Transformable

__all__ = [
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "count_categories",
    "information_by_category",
    "perplexity_from_counts",
    "usage_from_counts",
]

_LOWEST = -1e30


def categorical_log_prob(logits: Tensor, index: Tensor) -> Tensor:
    """Log-probability of categories.

    Args:
        logits: Unnormalised log-probabilities, broadcastable with ``(..., K)``.
        index: Integer categories ``(...)``; leading axes may be more than those of ``logits``.

    Returns:
        Nats per position, the shape of ``index``.
    """
    log_p = logits.log_softmax(-1)
    return log_p.expand(*index.shape, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)


def categorical_entropy(logits: Tensor) -> Tensor:
    r"""Entropy :math:`-\sum_k \pi_k \log \pi_k`.

    Args:
        logits: Unnormalised log-probabilities ``(..., K)``; ``-inf`` forbids a category.

    Returns:
        Nats per position ``(...)``, within [0, log K].
    """
    log_p = logits.log_softmax(-1)
    # A forbidden category adds 0, the limit of p log p; the clamp keeps 0 * -inf out.
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(-1)


def _lowest(logits: Tensor) -> float:
    # float16 does not reach -1e30; half of its range leaves room for what is taken off later.
    return max(_LOWEST, torch.finfo(logits.dtype).min / 2)


class _CategoricalKL(Transformable):
    """The KL with its gradient written out: a third of autograd's time for few categories.

    It returns the probabilities and the log-ratio besides, which its backward pass needs.
    """

    @staticmethod
    def forward(logits: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # A forbidden category must add 0 log 0 = 0, not 0 * -inf.
        shifted = (logits - logits.amax(-1, keepdim=True)).clamp_min_(_lowest(logits))
        q = shifted.exp()
        total = q.sum(-1, keepdim=True)
        q.div_(total)
        log_ratio = shifted.sub_(total.log_()) - log_prior
        return (q * log_ratio).sum(-1), q, log_ratio

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        kl, q, log_ratio = output
        ctx.mark_non_differentiable(q, log_ratio)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, q, log_ratio, kl)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if grads[0] is None:
            return None, None
        logits, log_prior, q, log_ratio, kl = ctx.saved_tensors
        grad = grads[0].unsqueeze(-1)
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated
            log_q = logits.log_softmax(-1).clamp_min(_lowest(logits))
            q, log_ratio = log_q.exp(), log_q - log_prior
            kl = (q * log_ratio).sum(-1)
        of_logits = (log_ratio - kl.unsqueeze(-1)) * q * grad
        of_prior = (-q * grad).sum_to_size(log_prior.shape) if ctx.needs_input_grad[1] else None
        return of_logits, of_prior


def categorical_kl(logits: Tensor, log_prior: Tensor) -> Tensor:
    r"""Exact divergence :math:`\mathrm{KL}(q \| p) = \sum_k q_k (\log q_k - \log p_k)`.

    It is that of the categorical itself, never of a relaxed density: the relaxed one is not a bound
    on the same quantity.

    Args:
        logits: Unnormalised log-probabilities of q, ``(..., K)``.
        log_prior: Normalised log-probabilities of p, broadcastable with ``logits``.

    Returns:
        Nats per position ``(...)``, never negative but for rounding.
    """
    kl: Tensor = _CategoricalKL.call(logits, log_prior)[0]
    return kl


def information_by_category(logits: Tensor) -> Tensor:
    r"""What each category tells of which row it is from: its part of the mutual information.

    :math:`\sum_n q_{nk} \log(q_{nk} / \bar q_k)` with :math:`\bar q` the mean over the rows. Over
    the categories it sums to N times their mutual information with the row.

    Args:
        logits: Unnormalised log-probabilities ``(N, K)``; ``-inf`` forbids a category.

    Returns:
        Nats, summed over the rows, ``(K,)``: within [0, N log N], but for rounding. 0 for a
        category that is never drawn, and for one that is equally probable in all rows.
    """
    log_q = logits.log_softmax(-1).clamp_min(torch.finfo(logits.dtype).min)
    q = log_q.exp()
    total = q.sum(0)
    of_marginal: Tensor = torch.special.xlogy(total, total / len(q))
    return (q * log_q).sum(0) - of_marginal


def count_categories(index: Tensor, num_categories: int) -> Tensor:
    """Count how often each category occurs, without waiting for the device.

    Args:
        index: Integers of any shape, 64-bit, within [0, K).
        num_categories: K. It is the length of the result, which ``torch.bincount`` finds out by
            reading the largest index: on a GPU the host waits there, in every step.

    Returns:
        Integers ``(K,)``.
    """
    flat = index.flatten()
    return flat.new_zeros(num_categories).scatter_add_(0, flat, torch.ones_like(flat))


def perplexity_from_counts(counts: Tensor) -> Tensor:
    """Exponential of the entropy of the empirical code distribution.

    Args:
        counts: How often each code was used, ``(..., K)``, over a whole epoch and all processes:
            an average of perplexities of batches is lower than that of the counts.

    Returns:
        Codes ``(...)``, within [1, K]; 0 where nothing was counted.
    """
    total = counts.sum(-1, keepdim=True)
    p = counts.double() / total.clamp_min(1)
    perplexity = torch.special.entr(p).sum(-1).exp()
    return torch.where(total.squeeze(-1) > 0, perplexity, 0.0)


def usage_from_counts(counts: Tensor) -> Tensor:
    """Fraction of the codes that were used at all.

    Args:
        counts: How often each code was used, ``(..., K)``.

    Returns:
        Fractions ``(...)``, within [0, 1].
    """
    return (counts > 0).double().mean(-1)
