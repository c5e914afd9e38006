"""When a code book draws through `dvae.kernels` and when through matrices of logits."""

import logging
from importlib.util import find_spec
from typing import Literal, get_args

from torch import Generator, Tensor

from dvae.estimators.base import Estimator, check_top
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.estimators.reinmax import ReinMax
from dvae.estimators.straight_through import StraightThrough
from dvae.kernels import Backend, Book, Relaxation, Sweep, draw_seed, sweep, triton_refusal

__all__ = ["Kernel", "KernelChoice", "fused_draw"]

log = logging.getLogger("dvae")

Kernel = Literal["auto", "plain", "blocked", "triton"]

# Numbers in the matrix of logits (32 MiB) from which the blocked version is faster on a CPU:
# a step took 1.1 to 2.3 times as long with matrices at 2^23, for K of 128 to 8,192 and (C, D) of
# (64, 64) and (256, 128); 0.8 to 1.1 times at 2^22. Medians of 5 pairs by
# `python -m benchmarks.bottleneck --crossover`: torch 2.14, two threads of an AMD EPYC (AVX2),
# 2026-11-25.
# Memory is a reason besides: some six such matrices are not there.
_CROSSOVER = 2**23
# Elsewhere: 4 GiB each. On a GPU no times have been measured yet, and memory is the only reason.
_CROSSOVER_ELSEWHERE = 2**30


class KernelChoice:
    """Which version a code book uses, said once for each that it comes to.

    Args:
        kernel: What was asked for.
        estimator: How the gradient crosses the draw.

    Raises:
        ValueError: There is no such version, or not for this estimator, or not installed.
    """

    def __init__(self, kernel: Kernel, estimator: Estimator) -> None:
        if kernel not in get_args(Kernel):
            raise ValueError(f"kernel must be one of {', '.join(get_args(Kernel))}; got {kernel!r}")
        # Not their subclasses, which draw in another way.
        self.supported = type(estimator) in (GumbelSoftmax, StraightThrough, ReinMax)
        if kernel in ("blocked", "triton") and not self.supported:
            raise ValueError(
                f"kernel={kernel!r} needs the estimator GumbelSoftmax, StraightThrough or ReinMax; "
                f"got {type(estimator).__name__} (allowed with it: auto, plain)"
            )
        self._triton = type(estimator) is not ReinMax
        if kernel == "triton" and not self._triton:
            raise ValueError(
                "kernel='triton' has no ReinMax; allowed with it are auto, plain, blocked"
            )
        if kernel == "triton" and find_spec("triton") is None:
            raise ValueError(
                "kernel='triton' needs the package triton, which is not installed; allowed are "
                "auto, plain, blocked"
            )
        self.kernel = kernel
        self._said: set[str] = set()

    def __call__(self, rows: Tensor, num_codes: int, code_dim: int) -> Backend | None:
        """Choose for features, by device and size.

        Args:
            rows: ``(N, in_features)``.
            num_codes: K.
            code_dim: D.

        Returns:
            The version, or ``None`` for the matrices of logits.
        """
        chosen = self._choose(rows, num_codes, code_dim)
        name = chosen or "plain"
        if name not in self._said:
            self._said.add(name)
            log.info(
                "code book: kernel %s (%s) for %d positions of %d codes on %s",
                *(name, self.kernel, len(rows), num_codes, rows.device.type),
            )
        return chosen

    def _choose(self, rows: Tensor, num_codes: int, code_dim: int) -> Backend | None:
        if self.kernel == "plain" or not self.supported:
            return None
        if self.kernel != "auto":
            return self.kernel
        on_cpu = rows.device.type == "cpu"
        if len(rows) * num_codes < (_CROSSOVER if on_cpu else _CROSSOVER_ELSEWHERE):
            return None
        if on_cpu or not self._triton:
            return "blocked"
        refused = triton_refusal(rows.device, rows.shape[1], code_dim, rows.dtype)
        return "blocked" if refused else "triton"


def fused_draw(
    rows: Tensor,
    book: Book,
    estimator: Estimator,
    backend: Backend,
    generator: Generator | None = None,
) -> Sweep:
    """Draw vectors with the gradient of an estimator, as its layer on the logits would.

    Args:
        rows: Features ``(N, in_features)``.
        book: The code book.
        estimator: `GumbelSoftmax`, `StraightThrough` or `ReinMax`.
        backend: The version.
        generator: Where the seed of the noise comes from; the global one by default.

    Raises:
        ValueError: A row of logits without a finite maximum (on CPU).
    """
    noisy = isinstance(estimator, GumbelSoftmax)
    tau = estimator.tau
    assert isinstance(tau, Tensor)
    hard = estimator.hard if isinstance(estimator, GumbelSoftmax) else True
    seed = draw_seed(generator, rows.device)
    relaxation = Relaxation(tau, hard, noisy, heun=isinstance(estimator, ReinMax))
    found: Sweep = sweep(rows, book, relaxation, seed, backend)
    # NaN and +inf among the logits are NaN here.
    check_top(found.kl)
    return found
