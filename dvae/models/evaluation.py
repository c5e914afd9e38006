"""Honest evaluation: bounds at hard codes drawn exactly, and the likelihood itself by counting."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import Bottleneck
from dvae.bottlenecks.posterior import Posterior
from dvae.data.seeding import seeded_generator
from dvae.functional import iwae_bound
from dvae.likelihoods import Likelihood
from dvae.priors.base import FactorisedPrior, Prior
from dvae.scalars import MAX_COUNT

__all__ = ["Bounds", "Evaluation", "bounds", "exact_log_px"]


@dataclass(frozen=True)
class Evaluation:
    """How much work the test puts into its bounds.

    Args:
        iwae_samples: Draws m of the importance-weighted bound and of the test ELBO, at least 1.
        chunk: Codes decoded at once, which bounds the memory; more are no quicker on a CPU.
        max_states: The exact likelihood is computed where the code of an image has at most so
            many states (K to the power of L); 0 for never.
        seed: Seed of the noise of validation, test and pictures.

    Raises:
        ValueError: A value outside its range.
    """

    iwae_samples: int = 100
    chunk: int = 1024
    max_states: int = 2**20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, least in (("iwae_samples", 1), ("chunk", 1), ("max_states", 0), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"evaluation.{name} must be >= {least}; got {value}")
            if value > MAX_COUNT:
                raise ValueError(f"evaluation.{name} must be <= {MAX_COUNT}; got {value}")

    def noise(
        self,
        purpose: Literal["codes", "pixels", "prior"],
        device: torch.device | str = "cpu",
        rank: int = 0,
    ) -> Generator:
        """Start a stream of noise, the same at each evaluation.

        Streams of different purposes, seeds or processes have nothing in common: with one seed for
        the noise of pixels and that of codes, a code would know of the noise that it is to explain.

        Args:
            purpose: What is drawn.
            device: Where it is drawn.
            rank: Which of the processes draws.
        """
        return seeded_generator(f"evaluation: {purpose}", self.seed, rank, device=device)


class Decodes(Protocol):
    """What the bounds need of a model."""

    bottleneck: Bottleneck
    prior: Prior
    decoder: nn.Module
    likelihood: Likelihood

    def log_px(self, code: Tensor, image: Tensor) -> Tensor:
        """Take decoder inputs ``(S, B, *z)`` and images, return ``(S, B)`` in nats."""


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on log p(x), nats per example.

    Attributes:
        log_px: Mean of log p(x | z) over the draws, ``(B,)``.
        elbo: ``log_px`` minus the KL, ``(B,)``.
        iwae: Importance-weighted bound of the same draws, ``(B,)``.
        kl: KL to the prior, ``(B,)``: exact, or of the draws where the prior has no closed form.
        log_p: Mean of log p(z) over the draws, ``(B,)``.
    """

    log_px: Tensor
    elbo: Tensor
    iwae: Tensor
    kl: Tensor
    log_p: Tensor


def bounds(
    image: Tensor, posterior: Posterior, index: Tensor, model: Decodes, chunk: int
) -> Bounds:
    """Compute the ELBO and the importance-weighted bound of the same exact draws.

    Images are taken in groups small enough that at most ``chunk`` codes are decoded at once; an
    image with more draws than that is decoded in parts.

    Args:
        image: ``(B, C, H, W)``.
        posterior: q of the images.
        index: Exact draws from it, integers ``(S, B, *positions)``.
        model: Weighs images and codes.
        chunk: Codes decoded at once.

    Returns:
        The bounds for each image.
    """
    rows = max(1, chunk // len(index))
    log_q = posterior.log_prob(index)
    groups = []
    for x, drawn, log_q_z in zip(
        image.split(rows), index.split(rows, 1), log_q.split(rows, 1), strict=True
    ):
        parts = drawn.split(chunk)
        log_px = torch.cat([model.log_px(model.bottleneck.embed(z), x) for z in parts])
        log_p = torch.cat([model.prior.log_prob(z) for z in parts])
        groups.append((log_px.mean(0), iwae_bound(log_px + log_p - log_q_z), log_p.mean(0)))
    mean, iwae, log_p = (torch.cat(values) for values in zip(*groups, strict=True))
    kl = model.prior.closed_kl(posterior)
    if not isinstance(model.prior, FactorisedPrior):
        kl = kl - log_p
    return Bounds(mean, mean - kl, iwae, kl, log_p)


def exact_log_px(image: Tensor, model: Decodes, chunk: int) -> Tensor:
    r"""Compute :math:`\log p(x) = \log \sum_z p(z)\, p(x \mid z)` by visiting every code.

    Args:
        image: ``(B, C, H, W)``.
        model: Lists the codes and weighs them and the images.
        chunk: Codes decoded at once.

    Returns:
        Nats per example, ``(B,)``.

    Raises:
        ValueError: The number of codes depends on the size of the image.
    """
    bottleneck = model.bottleneck
    count = bottleneck.num_states
    if count is None:
        raise ValueError("the number of codes must be known to visit them all")
    total = torch.full((len(image),), -torch.inf, dtype=torch.float32, device=image.device)
    for start in range(0, count, chunk):
        index = bottleneck.states(start, min(start + chunk, count)).to(image.device)
        params = model.decoder(bottleneck.embed(index))
        joint = model.likelihood.pairwise_log_prob(params, image)
        joint = joint + model.prior.log_prob(index)[:, None]
        total = torch.logaddexp(total, joint.logsumexp(0))
    return total
