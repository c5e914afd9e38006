"""Noise of estimators, drawn in float32 whatever they compute in, and never infinite."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dvae.functional import exponential_from_bits, exponential_from_uniform

__all__ = ["exponential_noise", "gumbel_noise_like", "uniform_noise"]

# Numbers that a CPU's level-2 cache holds three times.
_CACHED = 2**16


def uniform_noise(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw uniform noise in float32 (float64 for float64), of 31 bits (53).

    Two draws of a half give the same numbers as one of the whole; those of `torch.rand` on a CPU
    depend on where they are cut.

    Args:
        shape: Shape of the noise.
        like: Gives device and precision.
        generator: Source of the randomness; the global generator by default.

    Returns:
        Noise in [0, 1].
    """
    if like.dtype == torch.float64:
        return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    # (i + 1/2) 2^-31 in one pass.
    return torch.rsub(_bits(shape, like, generator), 2.0**-32, alpha=-(2.0**-31))


def _bits(shape: Sequence[int], like: Tensor, generator: Generator | None) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.randint(2**31, tuple(shape), dtype=torch.int32, device=like.device)
    # Also 31 bits, for which a CPU needs no division; the compiler does not take it. Made from
    # another tensor, so that under `torch.func.vmap` each entry has noise of its own.
    return like.new_empty(shape, dtype=torch.int32).random_(generator=generator)


def exponential_noise(
    shape: Sequence[int], like: Tensor, generator: Generator | None = None
) -> Tensor:
    """Draw standard exponential noise in float32 (float64 for float64), of 31 bits (53).

    Args:
        shape: Shape of the noise.
        like: Gives device and precision.
        generator: Source of the randomness; the global generator by default.

    Returns:
        Noise above 0, finite.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    noise = like.new_empty(shape, dtype=dtype)
    on_cpu = noise.device.type == "cpu" and not torch.compiler.is_compiling()
    if not on_cpu or noise.numel() <= _CACHED:
        return _exponential(noise, generator)
    # In parts, which leaves the stream of noise as it is: memory fresh from the system costs a CPU
    # more than what is done in it.
    for part in noise.view(-1).split(_CACHED):
        part.copy_(_exponential(part, generator))
    return noise


def _exponential(like: Tensor, generator: Generator | None) -> Tensor:
    if like.dtype == torch.float64:
        return exponential_from_uniform(uniform_noise(like.shape, like, generator))
    return exponential_from_bits(_bits(like.shape, like, generator))


def gumbel_noise_like(logits: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw standard Gumbel noise of the shape of the logits; see `exponential_noise`.

    Args:
        logits: Gives shape, device and precision.
        generator: Source of the randomness; the global generator by default.
    """
    return exponential_noise(logits.shape, logits, generator).log_().neg_()
