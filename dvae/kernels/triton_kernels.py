"""The Triton kernels of the fused code book: a sweep forward, and two ways backward.

Tiles of rows (M) and of codes (K); C and D, padded to powers of two, are never cut. Products
accumulate in float32, and everything else is float32. Powers and logarithms have the base 2, which
a GPU has instructions for.
"""

import triton
import triton.language as tl

from dvae.kernels.triton_parts import (
    LN2,
    LOG2E,
    LOWEST,
    bias_of,
    gumbel,
    load,
    of_codes,
    row_keys,
    store,
)

__all__ = ["codes_backward", "forward", "rows_backward"]


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
    keys_ptr,
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

    That is, of both softmaxes, the largest exponent and the sum relative to it, apart (see
    `dvae.kernels.blocked`), and the keys of the noise, which cost more than the noise of a tile.
    """
    rows = tl.program_id(0) * M + tl.arange(0, M)
    channels, dims = tl.arange(0, C_PAD), tl.arange(0, D_PAD)
    h = load(h_ptr, rows, num_rows, channels, C)
    rate = LOG2E / tl.load(tau_ptr)
    first, second = row_keys(tl.load(seed_ptr), rows)
    top = tl.full((M,), LOWEST, tl.float32)
    best, peak = top, top
    index = tl.zeros((M,), tl.int32)
    mode = index
    total = tl.zeros((M,), tl.float32)
    moment, weight = total, total
    mixture = tl.zeros((M, D_PAD), tl.float32)
    for start in range(0, num_codes, K):
        codes = start + tl.arange(0, K)
        w = load(w_ptr, codes, num_codes, channels, C)
        logits = tl.dot(h, tl.trans(w), input_precision=PRECISION)
        # An infinite bias gives -1e30, whatever it is added to.
        logits += bias_of(b_ptr, codes, num_codes, HAS_BIAS)[None, :]
        scores = logits + gumbel(first[:, None], second[:, None], codes[None, :])
        new_top, new_best = tl.max(logits, 1), tl.max(scores, 1)
        mode = tl.where(new_top > top, _place(logits, new_top, codes), mode)
        index = tl.where(new_best > best, _place(scores, new_best, codes), index)
        best = tl.maximum(new_best, best)
        # The relaxed softmax.
        x = scores if NOISY else logits
        new_peak = tl.maximum(new_best if NOISY else new_top, peak)
        decay = tl.exp2((peak - new_peak) * rate)
        s = tl.exp2((x - new_peak[:, None]) * rate)
        weight = weight * decay + tl.sum(s, 1)
        e = load(e_ptr, codes, num_codes, dims, D)
        mixture = tl.dot(s.to(e.dtype), e, mixture * decay[:, None], input_precision=PRECISION)
        peak = new_peak
        # The KL.
        new_top = tl.maximum(new_top, top)
        fall = top - new_top
        decay = tl.exp2(fall * LOG2E)
        shifted = logits - new_top[:, None]
        q = tl.exp2(shifted * LOG2E)
        if HAS_PRIOR:
            shifted -= of_codes(p_ptr, codes, num_codes, HAS_PRIOR)[None, :]
        moment = (moment + fall * total) * decay + tl.sum(q * shifted, 1)
        total = total * decay + tl.sum(q, 1)
        top = new_top
    inside = rows < num_rows
    store(mixture_ptr, rows, num_rows, dims, D, mixture / weight[:, None])
    ratio = moment / total
    kl = ratio - tl.log(total)
    if not HAS_PRIOR:
        kl += tl.log(num_codes.to(tl.float32))
    # Among NaN a place may be past the last code, where a look-up would end the process.
    last = num_codes - 1
    tl.store(index_ptr + rows, tl.minimum(index, last).to(tl.int64), inside)
    tl.store(mode_ptr + rows, tl.minimum(mode, last).to(tl.int64), inside)
    tl.store(kl_ptr + rows, kl, inside)
    tl.store(keys_ptr + rows, first, inside)
    tl.store(keys_ptr + num_rows + rows, second, inside)
    tl.store(sums_ptr + rows, top, inside)
    tl.store(sums_ptr + num_rows + rows, total, inside)
    tl.store(sums_ptr + 2 * num_rows + rows, ratio, inside)
    tl.store(sums_ptr + 3 * num_rows + rows, peak, inside)
    tl.store(sums_ptr + 4 * num_rows + rows, weight, inside)


@triton.jit
def _place(x, top, codes):
    """Find the first code of each row whose number is the largest: cheaper than an arg-max."""
    return tl.min(tl.where(x == top[:, None], codes[None, :], 0x7FFFFFFF), 1)


@triton.jit
def _row_values(mean_ptr, grad_kl_ptr, sums_ptr, keys_ptr, rows, num_rows):
    """Load what `forward` left of rows; those past the last one have softmaxes of 0.

    Of the softmaxes' sums come one over the relaxed one's, and the KL's gradient over the other's.
    """
    inside = rows < num_rows
    mean = tl.load(mean_ptr + rows, inside, other=0.0)
    grad_kl = tl.load(grad_kl_ptr + rows, inside, other=0.0)
    top = tl.load(sums_ptr + rows, inside, other=-LOWEST)
    total = tl.load(sums_ptr + num_rows + rows, inside, other=1.0)
    ratio = tl.load(sums_ptr + 2 * num_rows + rows, inside, other=0.0)
    peak = tl.load(sums_ptr + 3 * num_rows + rows, inside, other=-LOWEST)
    weight = tl.load(sums_ptr + 4 * num_rows + rows, inside, other=1.0)
    first = tl.load(keys_ptr + rows, inside, other=0)
    second = tl.load(keys_ptr + num_rows + rows, inside, other=0)
    return mean, grad_kl / total, top, ratio, peak, 1.0 / weight, first, second


@triton.jit
def _of_logits(
    h, w, grad, e, bias, prior, codes, rate, values, NOISY: tl.constexpr, PRECISION: tl.constexpr
):
    """Compute the gradient of a tile of logits, and both softmaxes there."""
    mean, of_row, top, ratio, peak, weight, first, second = values
    logits = tl.dot(h, tl.trans(w), input_precision=PRECISION) + bias[None, :]
    x = logits
    if NOISY:
        x += gumbel(first[:, None], second[:, None], codes[None, :])
    s = tl.exp2((x - peak[:, None]) * rate) * weight[:, None]
    of_s = tl.dot(grad, tl.trans(e), input_precision=PRECISION)
    of_code = s * (of_s - mean[:, None]) * (rate * LN2)
    shifted = logits - top[:, None]
    q = tl.exp2(shifted * LOG2E) * of_row[:, None]
    return of_code + q * (shifted - prior[None, :] - ratio[:, None]), s, q


@triton.jit
def rows_backward(
    h_ptr,
    w_ptr,
    b_ptr,
    e_ptr,
    p_ptr,
    tau_ptr,
    grad_ptr,
    mean_ptr,
    grad_kl_ptr,
    sums_ptr,
    keys_ptr,
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
    h = load(h_ptr, rows, num_rows, channels, C)
    grad = load(grad_ptr, rows, num_rows, dims, D)
    values = _row_values(mean_ptr, grad_kl_ptr, sums_ptr, keys_ptr, rows, num_rows)
    rate = LOG2E / tl.load(tau_ptr)
    of_h = tl.zeros((M, C_PAD), tl.float32)
    for start in range(0, num_codes, K):
        codes = start + tl.arange(0, K)
        w = load(w_ptr, codes, num_codes, channels, C)
        e = load(e_ptr, codes, num_codes, dims, D)
        prior = of_codes(p_ptr, codes, num_codes, HAS_PRIOR)
        bias = bias_of(b_ptr, codes, num_codes, HAS_BIAS)
        of_logits, _, _ = _of_logits(
            h, w, grad, e, bias, prior, codes, rate, values, NOISY, PRECISION
        )
        of_h = tl.dot(of_logits.to(w.dtype), w, of_h, input_precision=PRECISION)
    store(of_h_ptr, rows, num_rows, channels, C, of_h)


@triton.jit
def codes_backward(
    h_ptr,
    w_ptr,
    b_ptr,
    e_ptr,
    p_ptr,
    tau_ptr,
    grad_ptr,
    mean_ptr,
    grad_kl_ptr,
    sums_ptr,
    keys_ptr,
    of_h_ptr,
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
    ALL: tl.constexpr,
    C_PAD: tl.constexpr,
    D_PAD: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
):
    """Sweep over a part of the rows for K codes: gradients of weight, bias, code book and prior.

    Each part writes sums of its own, to be added up. Where all gradients are wanted, that of the
    features is added to as well, in an order that no two runs share.
    """
    codes = tl.program_id(0) * K + tl.arange(0, K)
    part = tl.program_id(1)
    channels, dims = tl.arange(0, C_PAD), tl.arange(0, D_PAD)
    w = load(w_ptr, codes, num_codes, channels, C)
    e = load(e_ptr, codes, num_codes, dims, D)
    prior = of_codes(p_ptr, codes, num_codes, HAS_PRIOR)
    bias = bias_of(b_ptr, codes, num_codes, HAS_BIAS)
    rate = LOG2E / tl.load(tau_ptr)
    of_w = tl.zeros((K, C_PAD), tl.float32)
    of_e = tl.zeros((K, D_PAD), tl.float32)
    of_b = tl.zeros((K,), tl.float32)
    of_p = of_b
    tiles = tl.cdiv(num_rows, M)
    each = tl.cdiv(tiles, tl.num_programs(1))
    first_tile = part * each
    count = tl.minimum(each, tiles - first_tile)
    for i in range(0, count):
        # Each program begins elsewhere, or all would add to the same rows at once.
        rows = (first_tile + (i + tl.program_id(0)) % count) * M + tl.arange(0, M)
        h = load(h_ptr, rows, num_rows, channels, C)
        grad = load(grad_ptr, rows, num_rows, dims, D)
        values = _row_values(mean_ptr, grad_kl_ptr, sums_ptr, keys_ptr, rows, num_rows)
        of_logits, s, q = _of_logits(
            h, w, grad, e, bias, prior, codes, rate, values, NOISY, PRECISION
        )
        of_b += tl.sum(of_logits, 0)
        of_p -= tl.sum(q, 0)
        of_logits = of_logits.to(h.dtype)
        of_w = tl.dot(tl.trans(of_logits), h, of_w, input_precision=PRECISION)
        if not HARD:
            of_e = tl.dot(tl.trans(s.to(grad.dtype)), grad, of_e, input_precision=PRECISION)
        if ALL:
            of_h = tl.dot(of_logits, w, input_precision=PRECISION)
            place = of_h_ptr + rows.to(tl.int64)[:, None] * C + channels[None, :]
            inside = (rows < num_rows)[:, None] & (channels < C)[None, :]
            tl.atomic_add(place, of_h, inside, sem="relaxed")
    start = part.to(tl.int64) * num_codes
    store(of_w_ptr + start * C, codes, num_codes, channels, C, of_w)
    if not HARD:
        store(of_e_ptr + start * D, codes, num_codes, dims, D, of_e)
    if HAS_BIAS:
        tl.store(of_b_ptr + start + codes, of_b, codes < num_codes)
    if HAS_PRIOR:
        tl.store(of_p_ptr + start + codes, of_p, codes < num_codes)
