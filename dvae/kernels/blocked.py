"""The fused code book block by block in torch's own operations, on any device.

A block of rows meets the blocks of codes one after the other, with a running softmax, and the
backward pass computes logits and noise again. Beyond inputs and results it holds a few blocks.

References:
    T. Dao, D. Fu, S. Ermon, A. Rudra, C. Re, 2022, arXiv 2205.14135 (the same for attention).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvae.kernels.blocks import Blocks
from dvae.kernels.loops import LOWEST, RowTerms
from dvae.kernels.parts import Book, Relaxation, Sweep

__all__ = ["blocked_sweep"]


def blocked_sweep(h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> Sweep:
    """Do the sweep in memory of N D numbers, in float32 (float64 for float64).

    Products of inputs in bfloat16 are of bfloat16 on a CPU that has instructions for them.

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
        if grads[0] is None and grads[2] is None:
            return (None,) * 7
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
        self.top, self.best = (blocks.numbers(n).fill_(LOWEST) for _ in range(2))
        # Sums of exp(logit - top), of that times the log-ratio, of exp((x - peak) / tau).
        self.sum, self.moment, self.weight = (blocks.numbers(n).zero_() for _ in range(3))
        self.mixed_sum = blocks.numbers(n, dim).zero_()
        self.posterior_sum = blocks.numbers(n, dim).zero_() if mixed and blocks.heun else None
        self.index, self.mode = torch.zeros(2, n, dtype=torch.int64, device=self.h.device)

    @property
    def peak(self) -> Tensor:
        """The largest x of the relaxed softmax."""
        return self.best if self.blocks.noisy else self.top

    def take(self, codes: slice) -> None:
        """Take in a block of codes."""
        logits = self.blocks.logits(self.h, self.rows, codes)
        x = self.blocks.scores(logits, self.rows, codes)
        loops, top, peak = self.blocks.loops, self.top, self.peak
        self.top = loops.raise_maxima(logits, self.top, self.mode, codes.start)
        self.best = loops.raise_maxima(x, self.best, self.index, codes.start)
        codebook = self.blocks.lift(self.blocks.book.codebook[codes])
        if self.mixed:
            if not self.blocks.noisy:
                x = self.blocks.copy(logits, self.rows, codes)
            self._relax(x, peak, codebook)
        self._diverge(logits, top, codes, codebook)

    def _relax(self, x: Tensor, peak: Tensor, codebook: Tensor) -> None:
        """Add to the relaxed softmax, whose peak was another; overwrites x."""
        decay = ((peak - self.peak) * self.blocks.rate).exp2_()
        total = self.blocks.loops.weigh(x, self.peak, self.blocks.rate)
        self.weight = self.weight.mul_(decay).add_(total)
        self.blocks.products.add(self.mixed_sum.mul_(decay.unsqueeze(1)), x, codebook)

    def _diverge(self, logits: Tensor, top: Tensor, codes: slice, codebook: Tensor) -> None:
        """Add to the KL, whose top was another; overwrites the logits."""
        fall = top - self.top
        decay = fall.exp()
        self.moment.add_(fall.mul_(self.sum)).mul_(decay)
        spare = self.blocks.spare(self.rows, codes)
        q, total, moment = self.blocks.loops.diverge(
            logits, self.top, self.blocks.prior(codes), spare
        )
        self.sum.mul_(decay).add_(total)
        if self.posterior_sum is not None:
            self.blocks.products.add(self.posterior_sum.mul_(decay.unsqueeze(1)), q, codebook)
        self.moment.add_(moment)

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
        top, total, ratio, peak, weight = sums[:, rows]
        terms = RowTerms(winner[rows], torch.zeros_like(top), top, ratio)
        if grad_kl is not None:
            terms = replace(terms, of_kl=blocks.lift(grad_kl[rows]) / total)
        if grad_code is not None:
            # The softmaxes below are not divided by their sums: what they are multiplied by is.
            over = blocks.lift(grad_code[rows]) / weight.unsqueeze(1)
            scaled = over if blocks.heun else over * blocks.inverse_tau
            mean = _dot(scaled, mixture[rows])
            best = blocks.lift(book.codebook[winner[rows]])
            if blocks.heun:
                # With u_k = g.E_k, p at tau, q at 1 and D the draw, 2 J((p + D) / 2) u - J(q) u / 2
                # is p (u - m) + D (u_D - m) - q (u - q.u) / 2, m = (p.u + u_D) / 2. The draw's term
                # is the only one that is not a matrix.
                drawn = index[rows]
                vector = blocks.lift(book.codebook[drawn])
                of_drawn = _dot(over, vector)
                mean = (mean + of_drawn) / 2
                of_drawn = ((of_drawn - mean) * weight).unsqueeze(1)
                terms = replace(
                    terms,
                    of_winner=_dot(over, best - (mixture[rows] + vector) / 2),
                    half=weight / (2 * total),
                    shift=mean - _dot(over, posterior[rows]),
                    of_winner_posterior=_dot(over, best - posterior[rows]),
                )
                if of_h is not None:
                    of_h[rows] += of_drawn * blocks.lift(book.weight[drawn])
                if of_weight is not None:
                    of_weight.index_add_(0, drawn, of_drawn * h)
                if of_bias is not None:
                    of_bias.index_add_(0, drawn, of_drawn.squeeze(1))
            else:
                terms = replace(terms, of_winner=_dot(scaled, best - mixture[rows]))
        for codes in blocks.codes():
            logits = blocks.logits(h, rows, codes)
            pull = None
            noisy = blocks.noisy and grad_code is not None
            s = (blocks.scores if noisy else blocks.copy)(logits, rows, codes)
            if grad_code is not None:
                blocks.loops.weigh(s, peak, blocks.rate)
                if of_codebook is not None:
                    blocks.products.add_transposed(of_codebook[codes], s, over)
                pull = blocks.pull(mean, scaled, rows, codes)
            of_logits, q = blocks.loops.gradient(
                *(logits, pull, s, terms, codes.start, blocks.prior(codes)),
                blocks.spare(rows, codes),
            )
            if of_prior is not None and terms.of_kl is not None:
                of_prior[codes].sub_(terms.of_kl @ q)
            if of_h is not None:
                blocks.products.add(of_h[rows], of_logits, blocks.lift(book.weight[codes]))
            if of_weight is not None:
                blocks.products.add_transposed(of_weight[codes], of_logits, h)
            if of_bias is not None:
                of_bias[codes].add_(of_logits.sum(0))
    return found


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)
