r"""Bias, variance and direction of an estimator's gradient against the true one."""

import copy

import torch
from torch import Generator, Tensor

from dvae.estimators import Estimator, PathwiseEstimator
from dvae.estimators.base import Integrand
from dvae.lab.exact import CHUNK, exact_gradient
from dvae.lab.reference import Reference
from dvae.lab.statistics import GradientStats, sum_up, summarise
from dvae.scalars import check_count

__all__ = ["adapt", "measure", "repeat"]

# Blocks of the jackknife: the standard errors themselves are then good to about 13%.
_BLOCKS = 32

_ADAPT_BATCH = 64
_ADAPT_RATE = 0.01


def measure(
    estimator: Estimator,
    f: Integrand,
    logits: Tensor,
    draws: int,
    generator: Generator | None = None,
    exact: Tensor | Reference | None = None,
) -> GradientStats:
    r"""Draw an estimator's gradient in the logits many times and compare it with the exact one.

    Nothing about the estimator changes: a running mean or a learned control variate stays as it
    is (see `adapt`), so that the draws are independent and identically distributed.

    Args:
        estimator: What to measure.
        f: Takes codes ``(S, B, ..., K)``, returns nats ``(S, B)``; the value of an example depends
            on its own code only.
        logits: Unnormalised log-probabilities of a batch, ``(B, ..., K)``.
        draws: Gradients of the whole batch to draw, at least 2.
        generator: Source of the noise; the global generator by default.
        exact: `exact_gradient` of the same f and logits, where it is at hand, or the
            `reference_gradient`, whose noise is then taken off what is measured.

    Returns:
        What was measured.

    Raises:
        ValueError: ``draws`` is below 2, or the batch has too many codes to enumerate.

    Example:
        >>> from dvae.estimators import StraightThrough
        >>> from dvae.lab import make_function, make_logits
        >>> f, logits = make_function("linear", 2, 3), make_logits("random", 2, 3)
        >>> stats = measure(StraightThrough(), f, logits, draws=64)
        >>> round(stats.cosine, 3)  # straight-through is exact where f is linear
        1.0
    """
    check_count("draws", draws, 2)
    if not isinstance(exact, Reference):
        exact = Reference((exact_gradient(f, logits) if exact is None else exact).double())
    blocks = min(_BLOCKS, draws)
    sizes = [draws // blocks + (block < draws % blocks) for block in range(blocks)]
    # Of the copy no running mean moves, as in training mode, and no parameter.
    still = copy.deepcopy(estimator).eval().requires_grad_(False)
    sums = [_block(still, f, logits, size, generator, exact.gradient) for size in sizes]
    return summarise(torch.stack(sums), exact)


def adapt(
    estimator: Estimator,
    f: Integrand,
    logits: Tensor,
    steps: int,
    generator: Generator | None = None,
) -> None:
    """Let an estimator find its baseline or control variate for f, as training would.

    Its parameters that require a gradient descend its variance by Adam, its running means move.

    Args:
        estimator: What to adapt; nothing happens to one without state.
        f: Takes codes ``(S, B, ..., K)``, returns nats ``(S, B)``.
        logits: ``(B, ..., K)``.
        steps: Batches of draws to learn from.
        generator: Source of the noise; the global generator by default.
    """
    learned = [parameter for parameter in estimator.parameters() if parameter.requires_grad]
    if isinstance(estimator, PathwiseEstimator) or not estimator.state_dict():
        return
    optimizer = torch.optim.Adam(learned, lr=_ADAPT_RATE) if learned else None
    wide_f, wide = repeat(f, logits, max(1, _ADAPT_BATCH // max(1, len(logits))))
    wide.requires_grad_()
    for _ in range(steps):
        value = estimator.expectation(wide_f, wide, generator)
        if optimizer is not None:
            gradients = torch.autograd.grad(value.sum(), learned)
            for parameter, gradient in zip(learned, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad()


def _block(
    estimator: Estimator,
    f: Integrand,
    logits: Tensor,
    draws: int,
    generator: Generator | None,
    exact: Tensor,
) -> Tensor:
    rows = max(1, CHUNK // max(1, len(logits)))
    parts = []
    for start in range(0, draws, rows):
        copies = min(rows, draws - start)
        wide_f, wide = repeat(f, logits, copies)
        wide.requires_grad_()
        value = estimator.expectation(wide_f, wide, generator)
        (gradient,) = torch.autograd.grad(value.sum(), wide)
        parts.append(sum_up(gradient.reshape(copies, *exact.shape).double(), exact))
    return torch.stack(parts).sum(0)


def repeat(f: Integrand, logits: Tensor, copies: int) -> tuple[Integrand, Tensor]:
    """Repeat a batch along its own axis.

    Args:
        f: Takes codes ``(S, B, ..., K)``, returns ``(S, B)``.
        logits: ``(B, ..., K)``.
        copies: How often, N.

    Returns:
        f for codes ``(S, N * B, ..., K)``, and logits ``(N * B, ..., K)`` without a gradient;
        example b of copy n is at ``n * B + b``.
    """
    batch = len(logits)

    def repeated(codes: Tensor) -> Tensor:
        values = f(codes.reshape(-1, batch, *codes.shape[2:]))
        return values.reshape(codes.shape[0], -1)

    wide = logits.detach().expand(copies, *logits.shape)
    return repeated, wide.reshape(copies * batch, *logits.shape[1:])
