r"""Gumbel noise that is a function of seed, row and column, so that it can be drawn again.

A pass that goes block by block keeps no noise matrix: its backward pass computes the same numbers
anew, whatever the blocks are. A row's two 32-bit keys are words of Philox 4x32-10, keyed by the
seed and counting rows. A column's bits are a permutation of the 32-bit numbers, keyed by its row:
the column is combined with the first key, mixed, combined with the second, and mixed again. All of
it is integer arithmetic modulo :math:`2^{32}`, so a GPU and a CPU draw the same bits; as Gumbel
noise they differ by the rounding of two logarithms.

References:
    J. Salmon et al., 2011, *Parallel random numbers: as easy as 1, 2, 3* (Philox); C. Wellons,
    2018, *Prospecting for hash functions* (``lowbias32``, whose multipliers and shifts these are).
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Generator, Tensor

__all__ = ["draw_seed", "gumbel_block", "gumbel_noise", "row_keys", "sweep_keys"]

_WORD = 0xFFFFFFFF
# Philox 4x32: multipliers and the steps of the key (Salmon et al. 2011, section 4.3).
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
# The two multipliers of lowbias32, as signed numbers. Its shifts are logical; here they copy the
# sign, which takes no mask, and x ^ (x >> n) is a permutation all the same.
_HASH = (0x7FEB352D, 0x846CA68B - 2**32)
# 2^64 over the golden ratio, as a signed number: the step of the seed from process to process.
_RANK_STEP = 0x9E3779B97F4A7C15 - 2**64
# The largest float32 below 1.
_BELOW_ONE = 1.0 - 2.0**-24


def draw_seed(
    generator: Generator | None = None,
    device: torch.device | str = "cpu",
    shape: Sequence[int] = (),
) -> Tensor:
    """Draw a seed for one call, or one for each of several images.

    Every call moves the generator on, so steps have different noise, a resumed run has the same,
    and nothing waits for the device. With the global generator a process adds its rank times an odd
    number of 64 bits: processes that were seeded alike still draw different noise.

    Args:
        generator: Source of the seed; the global generator by default.
        device: Device of the seed; that of the generator, where there is one.
        shape: How many. On a CPU several at once are those of as many calls.

    Returns:
        64-bit integers of that shape.
    """
    seed = torch.randint(2**63 - 1, tuple(shape), generator=generator, device=device)
    if generator is None and dist.is_available() and dist.is_initialized():
        seed += dist.get_rank() * _RANK_STEP % 2**63
    return seed


def row_keys(seed: int | Tensor, rows: Tensor) -> Tensor:
    """Compute the keys of rows: two words of Philox 4x32-10.

    Args:
        seed: A 64-bit integer, or a tensor of one, ``()``, or of one for each row, ``(N,)``: the
            key of Philox.
        rows: Row numbers, 64-bit integers ``(N,)``: the counter.

    Returns:
        32-bit integers ``(2, N, 1)``.
    """
    key = [seed & _WORD, seed >> 32 & _WORD]
    words = [rows & _WORD, rows >> 32 & _WORD, torch.zeros_like(rows), torch.zeros_like(rows)]
    for _ in range(_ROUNDS):
        # The product's 64 bits are right modulo 2^64, though its sign is not.
        first, second = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = [
            (second >> 32 & _WORD) ^ words[1] ^ key[0],
            second & _WORD,
            (first >> 32 & _WORD) ^ words[3] ^ key[1],
            first & _WORD,
        ]
        key = [(k + step) & _WORD for k, step in zip(key, _KEY_STEPS, strict=True)]
    return torch.stack(words[:2]).to(torch.int32).unsqueeze(-1)


def sweep_keys(seed: int | Tensor, rows: int, device: torch.device | None = None) -> Tensor:
    """Compute the keys of all rows of a sweep.

    Args:
        seed: A 64-bit integer, or a tensor of one, ``()``, or of one for each image, ``(B,)``: then
            the rows are those of the images one after the other, and each image's are numbered from
            0, so that its noise does not depend on the images beside it.
        rows: N, a multiple of B.
        device: Where the keys are; that of the seed by default.

    Returns:
        32-bit integers ``(2, N, 1)``.
    """
    device = seed.device if device is None and isinstance(seed, Tensor) else device
    number = torch.arange(rows, device=device)
    if not isinstance(seed, Tensor) or not seed.dim() or not rows:
        return row_keys(seed, number)
    of_image = rows // len(seed)
    return row_keys(seed.repeat_interleave(of_image), number % of_image)


def gumbel_block(keys: Tensor, columns: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute the noise of a block.

    Args:
        keys: Keys of the rows, ``(2, n, 1)``, by `row_keys`.
        columns: Column numbers, 32-bit integers ``(k,)``.
        dtype: Dtype of the noise; its randomness has 31 bits in any case.

    Returns:
        Standard Gumbel noise ``(n, k)``, finite: within [-2.82, 22.19].
    """
    space = columns.new_empty(2, keys.shape[1], len(columns))
    return log2_exponential_block(keys, columns, space.unbind()).to(dtype).mul_(-math.log(2))


def log2_exponential_block(keys: Tensor, columns: Tensor, space: Sequence[Tensor]) -> Tensor:
    r"""Compute :math:`\log_2 E` of exponential variables, whose :math:`-\log E` is Gumbel noise.

    A CPU takes logarithms to the base 2 in less time than natural ones.

    Args:
        keys: See `gumbel_block`.
        columns: See `gumbel_block`.
        space: Where to compute it, twice 32-bit integers ``(n, k)``; overwritten.

    Returns:
        ``(n, k)`` in float32, finite; it lies in ``space[1]``, and ``space[0]`` is free again.
    """
    bits, spare = space
    torch.bitwise_xor(columns, keys[0], out=bits)
    _mix(bits, spare)
    _mix(bits.bitwise_xor_(keys[1]), spare)
    _fold(bits, spare, 16)
    return _log2_exponential(bits, spare.view(torch.float32))


def gumbel_noise(
    seed: int | Tensor, rows: int, columns: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Compute the whole noise matrix at once.

    Args:
        seed: See `sweep_keys`.
        rows: N.
        columns: K, at most 2^31.
        dtype: Dtype of the noise.

    Returns:
        Standard Gumbel noise ``(N, K)``, on the device of the seed.
    """
    keys = sweep_keys(seed, rows)
    return gumbel_block(keys, torch.arange(columns, dtype=torch.int32, device=keys.device), dtype)


def _log2_exponential(bits: Tensor, out: Tensor) -> Tensor:
    r"""Turn 31 random bits into :math:`\log_2(-\log(1 - v))`, v uniform; overwrites the bits.

    :math:`v = (i + \frac12) 2^{-31}`: small v, which give the large numbers that win an arg-max,
    keep all their digits, so that ties are as rare as they should be among 100,000 codes.
    """
    i = out.copy_(bits.bitwise_and_(0x7FFFFFFF))
    minus_v = i.add_(0.5).mul_(-(2.0**-31)).clamp_min_(-_BELOW_ONE)
    # log1p takes a CPU as long as ten logarithms. The logarithm of the rounded 1 - v lacks what the
    # rounding has taken, and that difference is exact.
    w = torch.add(minus_v, 1, out=bits.view(torch.float32))
    lost = torch.sub(w.sub_(1), minus_v, out=minus_v)
    return lost.sub_(w.add_(1).log2_(), alpha=math.log(2)).log2_()


def _mix(x: Tensor, spare: Tensor) -> None:
    """Mix 32-bit integers in place."""
    x.mul_(_HASH[0])
    _fold(x, spare, 15)
    x.mul_(_HASH[1])


def _fold(x: Tensor, spare: Tensor, shift: int) -> None:
    x.bitwise_xor_(torch.bitwise_right_shift(x, shift, out=spare))
