"""What the Triton kernels of the fused code book have in common: noise, tiles, numbers of codes."""

import triton
import triton.language as tl

__all__ = ["LN2", "LOG2E", "LOWEST", "bias_of", "gumbel", "load", "of_codes", "row_keys", "store"]

# Lower than any logit, and finite: the difference of two of them is a number.
LOWEST = tl.constexpr(-1e30)
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _mix(x):
    x = x * 0x7FEB352D
    x = x ^ (x >> 15)
    return x * -0x7B935975


@triton.jit
def row_keys(seed, rows):
    """Compute the keys of rows; see `dvae.kernels.noise.row_keys`."""
    zero = rows * 0
    first, second, _, _ = tl.philox(seed, rows, zero, zero, zero)
    # Signed, for shifts that copy the sign.
    return first.to(tl.int32, bitcast=True), second.to(tl.int32, bitcast=True)


@triton.jit
def gumbel(first, second, columns):
    """Compute a tile of noise; the keys of rows and the columns are broadcast to its shape.

    See `dvae.kernels.noise.gumbel_block`.
    """
    x = _mix(columns ^ first)
    x = _mix(x ^ second)
    x = x ^ (x >> 16)
    v = ((x & 0x7FFFFFFF).to(tl.float32) + 0.5) * 4.656612873077393e-10
    v = tl.minimum(v, 0.9999999403953552)
    # There is no log1p: its series where 1 - v has lost the digits of v.
    series = v * (1.0 + v * (0.5 + v * (1 / 3 + v * (0.25 + v * 0.2))))
    exponential = tl.where(v < 0.0625, series, -LN2 * tl.log2(1.0 - v))
    return -LN2 * tl.log2(exponential)


@triton.jit
def load(x, rows, height, columns, width):
    """Load a tile of a contiguous matrix, zeros outside of it."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(x + rows.to(tl.int64)[:, None] * width + columns[None, :], inside, other=0.0)


@triton.jit
def store(x, rows, height, columns, width, value):
    """Store a tile of a contiguous matrix, nothing outside of it."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(x + rows.to(tl.int64)[:, None] * width + columns[None, :], value, inside)


@triton.jit
def of_codes(x, codes, num_codes, THERE: tl.constexpr):
    """Load a number of each code, zeros where there are none."""
    if THERE:
        return tl.load(x + codes, codes < num_codes, other=0.0).to(tl.float32)
    else:
        return codes.to(tl.float32) * 0.0


@triton.jit
def bias_of(b, codes, num_codes, HAS_BIAS: tl.constexpr):
    """Load the bias; a code that is forbidden or past the last one has the lowest logit."""
    bias = tl.maximum(of_codes(b, codes, num_codes, HAS_BIAS), LOWEST)
    return tl.where(codes < num_codes, bias, LOWEST)
