"""The Triton kernels of the fused code book: a sweep forward, and two backward.

Tiles of rows (M) and of codes (K); C and D, padded to powers of two, are never cut. Products
accumulate in float32, and everything else is float32.
"""

import triton
import triton.language as tl

__all__ = ["codes_backward", "forward", "rows_backward"]

# Lower than any logit, and finite: the difference of two of them is a number.
LOWEST = tl.constexpr(-1e30)


@triton.jit
def _mix(x):
    x = x * 0x7FEB352D
    x = x ^ (x >> 15)
    return x * -0x7B935975


@triton.jit
def _row_keys(seed, rows):
    """Compute the keys of rows; see `dvae.kernels.noise.row_keys`."""
    zero = rows * 0
    first, second, _, _ = tl.philox(seed, rows, zero, zero, zero)
    # Signed, for shifts that copy the sign.
    return first.to(tl.int32, bitcast=True), second.to(tl.int32, bitcast=True)


@triton.jit
def gumbel(first, second, columns):
    """Compute a tile of noise; see `dvae.kernels.noise.gumbel_block`."""
    x = _mix(columns[None, :] ^ first[:, None])
    x = _mix(x ^ second[:, None])
    x = x ^ (x >> 16)
    v = ((x & 0x7FFFFFFF).to(tl.float32) + 0.5) * 4.656612873077393e-10
    v = tl.minimum(v, 0.9999999403953552)
    # There is no log1p: its series where 1 - v has lost the digits of v.
    series = v * (1.0 + v * (0.5 + v * (1 / 3 + v * (0.25 + v * 0.2))))
    return -tl.log(tl.where(v < 0.0625, series, -tl.log(1.0 - v)))


@triton.jit
def _load(x, rows, height, columns, width):
    """Load a tile of a contiguous matrix, zeros outside of it."""
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    return tl.load(x + rows.to(tl.int64)[:, None] * width + columns[None, :], inside, other=0.0)


@triton.jit
def _store(x, rows, height, columns, width, value):
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    tl.store(x + rows.to(tl.int64)[:, None] * width + columns[None, :], value, inside)


@triton.jit
def _logits(h, w, b, codes, num_codes, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr):
    """Compute a tile of logits; codes past the last one are forbidden."""
    logits = tl.dot(h, tl.trans(w), input_precision=PRECISION)
    if HAS_BIAS:
        bias = tl.load(b + codes, codes < num_codes, other=0.0).to(tl.float32)
        logits += tl.maximum(bias, LOWEST)[None, :]
    return tl.where((codes < num_codes)[None, :], logits, LOWEST)


@triton.jit
def forward(
    h_ptr,
    w_ptr,
    b_ptr,
    e_ptr,
    p_ptr,
    tau_ptr,
    seed_ptr,
    mixture_ptr,
    index_ptr,
    mode_ptr,
    kl_ptr,
    sums_ptr,
    num_rows,
    num_codes,
    C,
    D,
    HAS_BIAS: tl.constexpr,
    HAS_PRIOR: tl.constexpr,
    NOISY: tl.constexpr,
    PRECISION: tl.constexpr,
    C_PAD: tl.constexpr,
    D_PAD: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
):
    """Sweep over the codes for M rows: mixture, draw, mode, KL, and what a backward pass needs.

    That is, of both softmaxes, the largest exponent and the sum relative to it, apart; see
    `dvae.kernels.blocked`.
    """
    rows = tl.program_id(0) * M + tl.arange(0, M)
    channels, dims = tl.arange(0, C_PAD), tl.arange(0, D_PAD)
    h = _load(h_ptr, rows, num_rows, channels, C)
    inverse_tau = 1.0 / tl.load(tau_ptr)
    first, second = _row_keys(tl.load(seed_ptr), rows)
    top = tl.full((M,), LOWEST, tl.float32)
    best, peak = top, top
    index = tl.zeros((M,), tl.int32)
    mode = index
    total = tl.zeros((M,), tl.float32)
    moment, weight = total, total
    mixture = tl.zeros((M, D_PAD), tl.float32)
    for start in range(0, num_codes, K):
        codes = start + tl.arange(0, K)
        w = _load(w_ptr, codes, num_codes, channels, C)
        logits = _logits(h, w, b_ptr, codes, num_codes, HAS_BIAS, PRECISION)
        scores = logits + gumbel(first, second, codes)
        new_top, new_mode = tl.max(logits, 1, return_indices=True)
        new_best, new_index = tl.max(scores, 1, return_indices=True)
        mode = tl.where(new_top > top, new_mode + start, mode)
        index = tl.where(new_best > best, new_index + start, index)
        best = tl.maximum(new_best, best)
        # The relaxed softmax.
        x = scores if NOISY else logits
        new_peak = tl.maximum(new_best if NOISY else new_top, peak)
        decay = tl.exp((peak - new_peak) * inverse_tau)
        s = tl.exp((x - new_peak[:, None]) * inverse_tau)
        weight = weight * decay + tl.sum(s, 1)
        e = _load(e_ptr, codes, num_codes, dims, D)
        mixture = tl.dot(s.to(e.dtype), e, mixture * decay[:, None], input_precision=PRECISION)
        peak = new_peak
        # The KL.
        new_top = tl.maximum(new_top, top)
        fall = top - new_top
        decay = tl.exp(fall)
        shifted = logits - new_top[:, None]
        q = tl.exp(shifted)
        if HAS_PRIOR:
            prior = tl.load(p_ptr + codes, codes < num_codes, other=0.0).to(tl.float32)
            shifted -= prior[None, :]
        moment = (moment + fall * total) * decay + tl.sum(q * shifted, 1)
        total = total * decay + tl.sum(q, 1)
        top = new_top
    inside = rows < num_rows
    _store(mixture_ptr, rows, num_rows, dims, D, mixture / weight[:, None])
    ratio = moment / total
    kl = ratio - tl.log(total)
    if not HAS_PRIOR:
        kl += tl.log(num_codes.to(tl.float32))
    # Among NaN the arg-max may be past the last code, where a look-up would end the process.
    last = num_codes - 1
    tl.store(index_ptr + rows, tl.minimum(index, last).to(tl.int64), inside)
    tl.store(mode_ptr + rows, tl.minimum(mode, last).to(tl.int64), inside)
    tl.store(kl_ptr + rows, kl, inside)
    tl.store(sums_ptr + rows, top, inside)
    tl.store(sums_ptr + num_rows + rows, total, inside)
    tl.store(sums_ptr + 2 * num_rows + rows, ratio, inside)
    tl.store(sums_ptr + 3 * num_rows + rows, peak, inside)
    tl.store(sums_ptr + 4 * num_rows + rows, weight, inside)


@triton.jit
def _of_logits(
    logits,
    grad,
    e,
    prior,
    first,
    second,
    codes,
    inverse_tau,
    mean,
    of_row,
    top,
    ratio,
    peak,
    weight,
    NOISY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute the gradient of a tile of logits, and both softmaxes there."""
    x = logits + gumbel(first, second, codes) if NOISY else logits
    s = tl.exp((x - peak[:, None]) * inverse_tau) / weight[:, None]
    of_s = tl.dot(grad, tl.trans(e), input_precision=PRECISION)
    of_code = s * (of_s - mean[:, None]) * inverse_tau
    shifted = logits - top[:, None]
    q = tl.exp(shifted) * of_row[:, None]
    return of_code + q * (shifted - prior[None, :] - ratio[:, None]), s, q


@triton.jit
def _row_values(mean_ptr, grad_kl_ptr, sums_ptr, rows, num_rows):
    """Load what `forward` left of rows; those past the last one have softmaxes of 0."""
    inside = rows < num_rows
    mean = tl.load(mean_ptr + rows, inside, other=0.0)
    grad_kl = tl.load(grad_kl_ptr + rows, inside, other=0.0)
    top = tl.load(sums_ptr + rows, inside, other=-LOWEST)
    total = tl.load(sums_ptr + num_rows + rows, inside, other=1.0)
    ratio = tl.load(sums_ptr + 2 * num_rows + rows, inside, other=0.0)
    peak = tl.load(sums_ptr + 3 * num_rows + rows, inside, other=-LOWEST)
    weight = tl.load(sums_ptr + 4 * num_rows + rows, inside, other=1.0)
    return mean, grad_kl / total, top, ratio, peak, weight


@triton.jit
def rows_backward(
    h_ptr,
    w_ptr,
    b_ptr,
    e_ptr,
    p_ptr,
    tau_ptr,
    seed_ptr,
    grad_ptr,
    mean_ptr,
    grad_kl_ptr,
    sums_ptr,
    of_h_ptr,
    num_rows,
    num_codes,
    C,
    D,
    HAS_BIAS: tl.constexpr,
    HAS_PRIOR: tl.constexpr,
    NOISY: tl.constexpr,
    PRECISION: tl.constexpr,
    C_PAD: tl.constexpr,
    D_PAD: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
):
    """Sweep over the codes for M rows: the gradient of the features."""
    rows = tl.program_id(0) * M + tl.arange(0, M)
    channels, dims = tl.arange(0, C_PAD), tl.arange(0, D_PAD)
    h = _load(h_ptr, rows, num_rows, channels, C)
    grad = _load(grad_ptr, rows, num_rows, dims, D)
    mean, of_row, top, ratio, peak, weight = _row_values(
        mean_ptr, grad_kl_ptr, sums_ptr, rows, num_rows
    )
    inverse_tau = 1.0 / tl.load(tau_ptr)
    first, second = _row_keys(tl.load(seed_ptr), rows)
    of_h = tl.zeros((M, C_PAD), tl.float32)
    for start in range(0, num_codes, K):
        codes = start + tl.arange(0, K)
        w = _load(w_ptr, codes, num_codes, channels, C)
        e = _load(e_ptr, codes, num_codes, dims, D)
        prior = tl.zeros((K,), tl.float32)
        if HAS_PRIOR:
            prior += tl.load(p_ptr + codes, codes < num_codes, other=0.0).to(tl.float32)
        logits = _logits(h, w, b_ptr, codes, num_codes, HAS_BIAS, PRECISION)
        # fmt: off
        of_logits, _, _ = _of_logits(
            logits, grad, e, prior, first, second, codes, inverse_tau, mean, of_row, top,
            ratio, peak, weight, NOISY, PRECISION,
        )
        # fmt: on
        of_h = tl.dot(of_logits.to(w.dtype), w, of_h, input_precision=PRECISION)
    _store(of_h_ptr, rows, num_rows, channels, C, of_h)


@triton.jit
def codes_backward(
    h_ptr,
    w_ptr,
    b_ptr,
    e_ptr,
    p_ptr,
    tau_ptr,
    seed_ptr,
    grad_ptr,
    mean_ptr,
    grad_kl_ptr,
    sums_ptr,
    of_w_ptr,
    of_b_ptr,
    of_e_ptr,
    of_p_ptr,
    num_rows,
    num_codes,
    C,
    D,
    HAS_BIAS: tl.constexpr,
    HAS_PRIOR: tl.constexpr,
    NOISY: tl.constexpr,
    PRECISION: tl.constexpr,
    HARD: tl.constexpr,
    C_PAD: tl.constexpr,
    D_PAD: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
):
    """Sweep over the rows for K codes: the gradients of weight, bias, code book and prior."""
    codes = tl.program_id(0) * K + tl.arange(0, K)
    channels, dims = tl.arange(0, C_PAD), tl.arange(0, D_PAD)
    w = _load(w_ptr, codes, num_codes, channels, C)
    e = _load(e_ptr, codes, num_codes, dims, D)
    prior = tl.zeros((K,), tl.float32)
    if HAS_PRIOR:
        prior += tl.load(p_ptr + codes, codes < num_codes, other=0.0).to(tl.float32)
    inverse_tau = 1.0 / tl.load(tau_ptr)
    seed = tl.load(seed_ptr)
    of_w = tl.zeros((K, C_PAD), tl.float32)
    of_e = tl.zeros((K, D_PAD), tl.float32)
    of_b = tl.zeros((K,), tl.float32)
    of_p = of_b
    for start in range(0, num_rows, M):
        rows = start + tl.arange(0, M)
        h = _load(h_ptr, rows, num_rows, channels, C)
        grad = _load(grad_ptr, rows, num_rows, dims, D)
        mean, of_row, top, ratio, peak, weight = _row_values(
            mean_ptr, grad_kl_ptr, sums_ptr, rows, num_rows
        )
        first, second = _row_keys(seed, rows)
        logits = _logits(h, w, b_ptr, codes, num_codes, HAS_BIAS, PRECISION)
        # fmt: off
        of_logits, s, q = _of_logits(
            logits, grad, e, prior, first, second, codes, inverse_tau, mean, of_row, top,
            ratio, peak, weight, NOISY, PRECISION,
        )
        # fmt: on
        of_w = tl.dot(tl.trans(of_logits.to(h.dtype)), h, of_w, input_precision=PRECISION)
        of_b += tl.sum(of_logits, 0)
        if not HARD:
            of_e = tl.dot(tl.trans(s.to(grad.dtype)), grad, of_e, input_precision=PRECISION)
        of_p -= tl.sum(q, 0)
    _store(of_w_ptr, codes, num_codes, channels, C, of_w)
    if not HARD:
        _store(of_e_ptr, codes, num_codes, dims, D, of_e)
    if HAS_BIAS:
        tl.store(of_b_ptr + codes, of_b, codes < num_codes)
    if HAS_PRIOR:
        tl.store(of_p_ptr + codes, of_p, codes < num_codes)
