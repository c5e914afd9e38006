"""What the versions of the fused code book share: what a sweep over the codes takes and returns."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Book", "Relaxation", "Sweep"]


@dataclass(frozen=True)
class Book:
    """A code book with the projection that gives its logits; a dtype for all.

    Attributes:
        weight: W, ``(K, C)``.
        bias: b, ``(K,)``; ``-inf`` forbids a code.
        codebook: E, ``(K, D)``.
        log_prior: Normalised log-probabilities of the prior, ``(K,)``; uniform by default.
    """

    weight: Tensor
    bias: Tensor | None
    codebook: Tensor
    log_prior: Tensor | None = None


@dataclass(frozen=True)
class Relaxation:
    r"""The softmax that the gradient goes through, :math:`s = \mathrm{softmax}(x / \tau)`.

    Attributes:
        tau: Temperature, above 0, ``()``.
        hard: Whether the vector drawn goes forward, and the mixture by s only backward.
        noisy: Whether x are the logits with the noise of the draw, or the logits.
        heun: Whether the gradient is ReinMax's, which takes a hard draw and logits without noise.
    """

    tau: Tensor
    hard: bool
    noisy: bool = True
    heun: bool = False


@dataclass(frozen=True)
class Sweep:
    """What one sweep over the codes finds for each row.

    Attributes:
        code: The mixture of vectors, or the vector drawn, ``(N, D)``.
        index: The code drawn, 64-bit integers ``(N,)``.
        kl: Exact KL of the categorical to the prior, nats, ``(N,)``, at least in float32.
        mode: The most probable code, 64-bit integers ``(N,)``.
        log_sum: Logarithm of the sum of the logits' exponentials, ``(N,)``, without a gradient: a
            code's log-probability is its logit less this.
    """

    code: Tensor
    index: Tensor
    kl: Tensor
    mode: Tensor
    log_sum: Tensor
