"""The fused code book block by block in torch's own operations, on any device.

A block of rows meets the blocks of codes one after the other, with a running softmax, and the
backward pass computes logits and noise again. Beyond inputs and results it holds a few blocks.

References:
    T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, 2022, arXiv 2205.14135 (the same for attention).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvae.devices import is_waited_for
from dvae.kernels.blocks import GRADIENT, LOWEST, Blocks
from dvae.kernels.parts import Book, Relaxation, Sweep

__all__ = ["blocked_sweep"]


def blocked_sweep(h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> Sweep:
    """Do the sweep in memory of N D numbers, in float32 (float64 for float64).

    Args:
        h: Features ``(N, C)``.
        book: The code book.
        relaxation: The softmax that the gradient goes through.
        seed: Seed of the noise, ``()``, or one for each image, ``(B,)``.

    Returns:
        What the functions of `dvae.kernels.codebook` return.
    """
    tensors = (book.weight, book.bias, book.codebook, book.log_prior)
    return Sweep(*_BlockedSweep.apply(h, *tensors, relaxation, seed))


class _BlockedSweep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        codebook: Tensor,
        log_prior: Tensor | None,
        relaxation: Relaxation,
        seed: Tensor,
    ) -> tuple[Tensor, ...]:
        blocks = Blocks(h, Book(weight, bias, codebook, log_prior), relaxation, seed)
        n, dim = len(h), codebook.shape[1]
        new = blocks.numbers
        mixture, kl = new(n, dim), new(n)
        # The mixture by the posterior itself, which only ReinMax's gradient needs.
        posterior = new(n, dim) if relaxation.heun else None
        sums = new(5, n)
        index, mode = torch.empty(2, n, dtype=torch.int64, device=h.device)
        mixed = not relaxation.hard or any(ctx.needs_input_grad)
        for rows in blocks.rows():
            state = _Running(blocks, rows, mixed)
            for codes in blocks.codes():
                state.take(codes)
            mixture[rows], index[rows], mode[rows] = state.mixture(), state.index, state.mode
            kl[rows], sums[:, rows] = state.results()
            if posterior is not None and state.posterior_sum is not None:
                posterior[rows] = state.posterior_sum / state.sum.unsqueeze(1)
        ctx.set_materialize_grads(False)
        log_sum = sums[0] + sums[1].log()
        ctx.mark_non_differentiable(index, mode, log_sum)
        ctx.relaxation = relaxation
        ctx.save_for_backward(
            *(h, weight, bias, codebook, log_prior, seed),
            *(mixture, posterior, index, index if relaxation.noisy else mode, sums),
        )
        code = codebook[index] if relaxation.hard else mixture.to(h.dtype)
        return code, index, kl, mode, log_sum

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        h, weight, bias, codebook, log_prior, seed, *saved = ctx.saved_tensors
        blocks = Blocks(h, Book(weight, bias, codebook, log_prior), ctx.relaxation, seed)
        with torch.autocast(h.device.type, enabled=False):
            found = _gradients(blocks, saved, grads[0], grads[2], ctx.needs_input_grad)
        inputs = (h, weight, bias, codebook, log_prior)
        cast = [g if g is None else g.to(x.dtype) for g, x in zip(found, inputs, strict=True)]
        return (*cast, None, None)


class _Running:
    """The sums and maxima of a block of rows over the codes met so far."""

    def __init__(self, blocks: Blocks, rows: slice, mixed: bool) -> None:
        self.blocks, self.rows, self.mixed = blocks, rows, mixed
        self.h = blocks.lift(blocks.h[rows])
        n, dim = len(self.h), blocks.book.codebook.shape[1]
        self.top, self.best, self.peak = (blocks.numbers(n).fill_(LOWEST) for _ in range(3))
        # Sums of exp(logit - top), of that times the log-ratio, of exp((x - peak) / tau).
        self.sum, self.moment, self.weight = (blocks.numbers(n).zero_() for _ in range(3))
        self.mixed_sum = blocks.numbers(n, dim).zero_()
        self.posterior_sum = blocks.numbers(n, dim).zero_() if mixed and blocks.heun else None
        self.index, self.mode = torch.zeros(2, n, dtype=torch.int64, device=self.h.device)

    def take(self, codes: slice) -> None:
        """Take in a block of codes."""
        logits = self.blocks.logits(self.h, self.rows, codes)
        scores = self.blocks.scores(logits, self.rows, codes)
        top, best = logits.amax(-1), scores.amax(-1)
        _update(self.mode, logits, top > self.top, codes.start)
        _update(self.index, scores, best > self.best, codes.start)
        self.best = torch.maximum(best, self.best)
        if self.mixed:
            noisy = self.blocks.noisy
            x = scores if noisy else self.blocks.copy(logits, self.rows, codes)
            self._relax(x, best if noisy else top, codes)
        self._diverge(logits, top, codes)

    def _relax(self, x: Tensor, top: Tensor, codes: slice) -> None:
        """Add to the relaxed softmax; overwrites x."""
        peak = torch.maximum(self.peak, top)
        decay = ((self.peak - peak) * self.blocks.rate).exp2_()
        weights = x.sub_(peak.unsqueeze(1)).mul_(self.blocks.rate).exp2_()
        self.weight = self.weight.mul_(decay).add_(weights.sum(-1))
        codebook = self.blocks.lift(self.blocks.book.codebook[codes])
        self.mixed_sum.mul_(decay.unsqueeze(1)).addmm_(weights, codebook)
        self.peak = peak

    def _diverge(self, logits: Tensor, top: Tensor, codes: slice) -> None:
        """Add to the KL; overwrites the logits."""
        top = torch.maximum(self.top, top)
        fall = self.top - top
        decay = fall.exp()
        self.moment.add_(fall.mul_(self.sum)).mul_(decay)
        shifted = logits.sub_(top.unsqueeze(1))
        q = self.blocks.powers(shifted, self.rows, codes)
        self.sum.mul_(decay).add_(q.sum(-1))
        if self.posterior_sum is not None:
            codebook = self.blocks.lift(self.blocks.book.codebook[codes])
            self.posterior_sum.mul_(decay.unsqueeze(1)).addmm_(q, codebook)
        self.moment.add_(q.mul_(self.blocks.log_ratio(shifted, codes)).sum(-1))
        self.top = top

    def mixture(self) -> Tensor:
        """Return the mixture of vectors, ``(n, D)``; zeros where none was asked for."""
        return self.mixed_sum / self.weight.unsqueeze(1) if self.mixed else self.mixed_sum

    def results(self) -> tuple[Tensor, Tensor]:
        """Return the KL ``(n,)``, and what the backward pass needs of both softmaxes ``(5, n)``.

        That is each one's largest exponent and its sum relative to that, apart: their logarithm's
        place is as far from 0 as the logits are, and a difference to it loses so many digits.
        """
        ratio = self.moment / self.sum
        kl = ratio - self.sum.log()
        if self.blocks.book.log_prior is None:
            kl += self.blocks.log_num_codes
        return kl, torch.stack([self.top, self.sum, ratio, self.peak, self.weight])


def _update(place: Tensor, x: Tensor, higher: Tensor, start: int) -> None:
    """Note where the maximum of a row is, for the rows whose maximum this block has moved up."""
    if is_waited_for(x):
        # How many rows that are is not known without waiting.
        torch.where(higher, x.argmax(-1) + start, place, out=place)
        return
    # After the first few blocks these are few, and to find a place takes a CPU many
    # times as long as to find a maximum.
    rows = higher.nonzero().squeeze(1)
    place[rows] = x[rows].argmax(-1) + start


def _gradients(
    blocks: Blocks,
    saved: list[Tensor],
    grad_code: Tensor | None,
    grad_kl: Tensor | None,
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Sweep over the codes again: gradients of features, weight, bias, code book and log-prior.

    With u_k = g.E_k the gradient through a softmax s has the terms s_k (u_k - s.u). Where it is
    saturated they are all 0: the others' by their weight, the winner's by a difference, which is
    taken of vectors, g.(E_k - s.E): of two products their rounding would be left.
    """
    mixture, posterior, index, winner, sums = saved
    book = blocks.book
    inputs = (blocks.h, book.weight, book.bias, book.codebook, book.log_prior)
    found = [
        None if x is None or not need else blocks.numbers(*x.shape).zero_()
        for x, need in zip(inputs, needed[:5], strict=True)
    ]
    of_h, of_weight, of_bias, of_codebook, of_prior = found
    if blocks.hard and grad_code is not None and of_codebook is not None:
        of_codebook.index_add_(0, index, blocks.lift(grad_code))
        of_codebook = None
    for rows in blocks.rows():
        h = blocks.lift(blocks.h[rows])
        # The softmaxes below are not divided by their sums: what they are multiplied by is.
        top, total, ratio, peak, weight = sums[:, rows].unsqueeze(2)
        if grad_code is not None:
            grad = blocks.lift(grad_code[rows])
            over = grad / weight
            scaled = grad if blocks.heun else over * blocks.inverse_tau
            mean = (scaled * mixture[rows]).sum(-1, keepdim=True)
            won = winner[rows]
            best = blocks.lift(book.codebook[won])
            of_best = (scaled * (best - mixture[rows])).sum(-1)
        if grad_kl is not None:
            of_row = blocks.lift(grad_kl[rows]).unsqueeze(1) / total
        if grad_code is not None and blocks.heun:
            # With u_k = g.E_k, p at tau, q at 1 and D the draw, 2 J((p + D) / 2) u - J(q) u / 2 is
            # p (u - m) + D (u_D - m) - q (u - q.u) / 2, m = (p.u + u_D) / 2. The draw's term is
            # the only one that is not a matrix.
            drawn = index[rows]
            of_drawn = (grad * blocks.lift(book.codebook[drawn])).sum(-1, keepdim=True)
            mean = (mean + of_drawn) / 2
            posterior_mean = (grad * posterior[rows]).sum(-1, keepdim=True)
            of_best_posterior = (grad * (best - posterior[rows])).sum(-1)
            half_way = (mixture[rows] + blocks.lift(book.codebook[drawn])) / 2
            of_best = (grad * (best - half_way)).sum(-1)
            of_drawn = of_drawn - mean
            if of_h is not None:
                of_h[rows] += of_drawn * blocks.lift(book.weight[drawn])
            if of_weight is not None:
                of_weight.index_add_(0, drawn, of_drawn * h)
            if of_bias is not None:
                of_bias.index_add_(0, drawn, of_drawn.squeeze(1))
        for codes in blocks.codes():
            logits = blocks.logits(h, rows, codes)
            of_logits = None
            if grad_code is not None:
                x = (blocks.scores if blocks.noisy else blocks.copy)(logits, rows, codes)
                s = x.sub_(peak).mul_(blocks.rate).exp2_()
                if of_codebook is not None:
                    of_codebook[codes].addmm_(s.t(), over)
                codebook = blocks.lift(book.codebook[codes])
                space = blocks.space(GRADIENT, rows, codes)
                of_logits = torch.addmm(-mean, scaled, codebook.t(), out=space)
                if blocks.heun:
                    q = blocks.powers(logits - top, rows, codes).div_(2 * total)
                    of_posterior = of_logits + (mean - posterior_mean)
                    blocks.put(of_best_posterior, of_posterior, won, codes)
                    of_posterior.mul_(q)
                    blocks.put(of_best, of_logits, won, codes)
                    of_logits.mul_(s.div_(weight)).sub_(of_posterior)
                else:
                    blocks.put(of_best, of_logits, won, codes)
                    of_logits.mul_(s)
            if grad_kl is not None:
                shifted = logits.sub_(top)
                q = blocks.powers(shifted, rows, codes).mul_(of_row)
                if of_prior is not None:
                    of_prior[codes].sub_(q.sum(0))
                fall = blocks.log_ratio(shifted, codes).sub_(ratio)
                of_logits = fall.mul_(q) if of_logits is None else of_logits.addcmul_(fall, q)
            if of_logits is None:
                continue
            if of_h is not None:
                of_h[rows].addmm_(of_logits, blocks.lift(book.weight[codes]))
            if of_weight is not None:
                of_weight[codes].addmm_(of_logits.t(), h)
            if of_bias is not None:
                of_bias[codes].add_(of_logits.sum(0))
    return found
