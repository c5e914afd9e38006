"""Honest evaluation: bounds at hard codes drawn exactly, and the likelihood itself by counting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import Bottleneck
from dvae.data.seeding import seeded_generator
from dvae.functional import iwae_bound
from dvae.likelihoods import Likelihood
from dvae.scalars import MOST

__all__ = ["Bounds", "Evaluation", "bounds", "exact_log_px"]


@dataclass(frozen=True)
class Evaluation:
    """How much work the test puts into its bounds.

    Args:
        iwae_samples: Draws m of the importance-weighted bound and of the test ELBO, at least 1.
        chunk: Codes decoded at once, which bounds the memory.
        max_states: The exact likelihood is computed where the code of an image has at most so
            many states (K to the power of L); 0 for never.
        seed: Seed of the noise of validation, test and pictures.

    Raises:
        ValueError: A value outside its range.
    """

    iwae_samples: int = 100
    chunk: int = 8192
    max_states: int = 2**20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, least in (("iwae_samples", 1), ("chunk", 1), ("max_states", 0), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"evaluation.{name} must be >= {least}; got {value}")
            if value > MOST:
                raise ValueError(f"evaluation.{name} must be <= {MOST}; got {value}")

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


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on log p(x), nats per example.

    Attributes:
        log_px: Mean of log p(x | z) over the draws, ``(B,)``.
        elbo: ``log_px`` minus the exact KL, ``(B,)``.
        iwae: Importance-weighted bound of the same draws, ``(B,)``.
    """

    log_px: Tensor
    elbo: Tensor
    iwae: Tensor


def bounds(
    image: Tensor,
    features: Tensor,
    bottleneck: Bottleneck,
    log_px: Callable[[Tensor, Tensor], Tensor],
    samples: int,
    chunk: int,
    generator: Generator,
) -> Bounds:
    """Compute the ELBO and the importance-weighted bound of the same exact draws.

    Images are taken in groups small enough that at most ``chunk`` codes are decoded at once; an
    image with more draws than that is decoded in parts. The bottleneck draws image by
    image, so the numbers do not depend on how the images are batched.

    Args:
        image: ``(B, C, H, W)``.
        features: Encoder output of the images.
        bottleneck: Draws and weighs the codes.
        log_px: Takes decoder inputs ``(S, B, *code)`` and images, returns ``(S, B)`` in nats.
        samples: Draws m for each image.
        chunk: Codes decoded at once.
        generator: Where the noise comes from.

    Returns:
        The bounds for each image.
    """
    rows = max(1, chunk // samples)
    groups = []
    for x, h in zip(image.split(rows), features.split(rows), strict=True):
        index = bottleneck.draw(h, samples, generator)
        log_likelihood = torch.cat([log_px(bottleneck.embed(z), x) for z in index.split(chunk)])
        log_prior = bottleneck.log_prior(index.flatten(0, 1)).view(index.shape[:2])
        log_weight = log_likelihood + log_prior - bottleneck.log_posterior(h, index)
        groups.append((log_likelihood.mean(0), iwae_bound(log_weight)))
    mean, iwae = (torch.cat(values) for values in zip(*groups, strict=True))
    return Bounds(mean, mean - bottleneck.kl(features), iwae)


def exact_log_px(
    image: Tensor,
    bottleneck: Bottleneck,
    decoder: nn.Module,
    likelihood: Likelihood,
    chunk: int,
) -> Tensor:
    r"""Compute :math:`\log p(x) = \log \sum_z p(z)\, p(x \mid z)` by visiting every code.

    Args:
        image: ``(B, C, H, W)``.
        bottleneck: Lists the codes and their prior.
        decoder: Maps decoder inputs to parameters of the likelihood.
        likelihood: Weighs the images.
        chunk: Codes decoded at once.

    Returns:
        Nats per example, ``(B,)``.

    Raises:
        ValueError: The number of codes depends on the size of the image.
    """
    count = bottleneck.num_states
    if count is None:
        raise ValueError("the number of codes must be known to visit them all")
    total = image.new_full((len(image),), -torch.inf)
    for start in range(0, count, chunk):
        index = bottleneck.states(start, min(start + chunk, count))
        params = decoder(bottleneck.embed(index))
        joint = likelihood.pairwise_log_prob(params, image) + bottleneck.log_prior(index)[:, None]
        total = torch.logaddexp(total, joint.logsumexp(0))
    return total
