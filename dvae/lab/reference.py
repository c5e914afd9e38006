r"""The gradient that estimators are compared with: exact, or sampled where codes are too many."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvae.estimators.base import Integrand, draw_index
from dvae.lab.exact import CHUNK, MAX_STATES, exact_gradient
from dvae.scalars import check_count

__all__ = ["REFERENCE_DRAWS", "Reference", "reference_gradient", "sampled_gradient"]

REFERENCE_DRAWS = 512
"""Draws of a sampled reference: of 20 latents of 10 categories its error is a few per cent."""

# Parts that are averaged, from whose spread the error of the mean is known.
_BLOCKS = 32


@dataclass(frozen=True, eq=False)
class Reference:
    """What stands for the true gradient of a batch.

    Attributes:
        gradient: Nats per unit of logit, ``(B, ..., K)``, float64.
        blocks: Independent unbiased estimates whose mean it is, ``(J, B, ..., K)``; None where it
            is exact.
        draws: Codes drawn for each example; 0 where it is exact.
    """

    gradient: Tensor
    blocks: Tensor | None = None
    draws: int = 0

    @property
    def noise(self) -> float:
        """Expected squared distance to the true gradient, summed over the batch."""
        return 0.0 if self.blocks is None else float(self.blocks.var(0).sum()) / len(self.blocks)

    def __str__(self) -> str:
        if self.blocks is None:
            return "exact, every code visited"
        error = (self.noise / max(float(self.gradient.square().sum()), 1e-300)) ** 0.5
        return (
            f"local expectation gradients of {self.draws} draws, whose error is {error:.1%} of "
            "the norm"
        )


def reference_gradient(
    f: Integrand,
    logits: Tensor,
    draws: int = REFERENCE_DRAWS,
    generator: Generator | None = None,
    max_states: int = MAX_STATES,
) -> Reference:
    """Visit every code where there are few, and sample the gradient where there are many.

    Args:
        f: Takes codes ``(S, B, L, K)``, returns nats ``(S, B)``; the value of an example depends
            on its own code only.
        logits: Unnormalised log-probabilities ``(B, L, K)``.
        draws: See `sampled_gradient`.
        generator: Source of the noise; the global generator by default.
        max_states: The most codes of an example that are visited.
    """
    latents, codes = logits.shape[1:]
    # Powers of huge numbers are slow: there are 2 categories at least.
    if latents <= 64 and codes**latents <= max_states:
        return Reference(exact_gradient(f, logits, max_states).double())
    return sampled_gradient(f, logits, draws, generator)


def sampled_gradient(
    f: Integrand, logits: Tensor, draws: int, generator: Generator | None = None
) -> Reference:
    r"""Average local expectation gradients, which are unbiased whatever f is.

    Of each latent all K categories are visited while the others are drawn:

    .. math:: g_{lk} = q_{lk} \Bigl( f(z_{-l}, k) - \sum_j q_{lj} f(z_{-l}, j) \Bigr)

    Args:
        f: See `reference_gradient`.
        logits: See `reference_gradient`.
        draws: Codes drawn for each example, at least 64; rounded down to a multiple of 32.
        generator: Source of the noise; the global generator by default.

    Raises:
        ValueError: ``draws`` is below 64.

    References:
        M. Titsias, 2015, arXiv 1503.01494.
    """
    check_count("reference_draws", draws, 2 * _BLOCKS)
    size = draws // _BLOCKS
    blocks = torch.stack([_mean(f, logits, size, generator) for _ in range(_BLOCKS)])
    return Reference(blocks.mean(0), blocks, _BLOCKS * size)


def _mean(f: Integrand, logits: Tensor, draws: int, generator: Generator | None) -> Tensor:
    rows = max(1, CHUNK // (len(logits) * logits.shape[-1]))
    total = torch.zeros_like(logits, dtype=torch.float64)
    for start in range(0, draws, rows):
        total += _local(f, logits, min(rows, draws - start), generator).double().sum(0)
    return total / draws


@torch.no_grad()
def _local(f: Integrand, logits: Tensor, draws: int, generator: Generator | None) -> Tensor:
    """Return a gradient for each draw, ``(N, B, L, K)``."""
    q, codes = logits.softmax(-1), logits.shape[-1]
    z = F.one_hot(draw_index(logits.expand(draws, *logits.shape), generator), codes).to(
        logits.dtype
    )
    each = torch.eye(codes, dtype=logits.dtype, device=logits.device).view(1, codes, 1, codes)
    gradients = []
    for latent in range(logits.shape[1]):
        visited = z.unsqueeze(1).repeat(1, codes, 1, 1, 1)
        visited[..., latent, :] = each
        values = f(visited.flatten(0, 1)).unflatten(0, (draws, codes)).movedim(1, -1)
        own = q[:, latent]
        gradients.append(own * (values - (own * values).sum(-1, keepdim=True)))
    return torch.stack(gradients, -2)
