"""When a code book draws through `dvae.kernels` and when through matrices of logits."""

import logging
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Generator, Tensor

from dvae.estimators.base import Estimator, check_top
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.estimators.reinmax import ReinMax
from dvae.estimators.straight_through import StraightThrough
from dvae.kernels import Backend, Book, Relaxation, Sweep, draw_seed, sweep, triton_refusal
from dvae.scalars import check_choice

__all__ = ["Kernel", "KernelChoice", "fused_draw", "fused_seed"]

log = logging.getLogger("dvae")

Kernel = Literal["auto", "plain", "blocked", "triton"]

# Numbers in the matrix of logits (8 MiB) from which the blocked version is faster on a CPU, for K
# of 128 to 8,192 and (C, D) of (64, 64) and (256, 128): a step took 1.2 to 2.6 times as long with
# matrices; 0.6 to 1.9 times at a quarter of that. Without AMD's convolutions it was 1.0 to 2.5
# times, without a compiler 0.8 to 1.4. Medians of 5 pairs by `python -m benchmarks.bottleneck
# --crossover`: torch 2.14, one thread of an AMD EPYC (AVX-512) beside other work, 2026-11-28.
_CROSSOVER = 2**21
# On a GPU six such matrices are there at once (`peak_mib` of `benchmarks/results/gpu_layer.csv`),
# and may take half of the memory that is free.
_MATRICES = 6
_SHARE = 0.5
# C and D up to which Triton is the quicker where float32 is multiplied as tf32 (3.2 times plain's
# speed at 64, 0.8 at 256; with half precision 8 and 3 times; with exact float32 a fifth to a half:
# the same table, of an H100).
_WIDEST_TF32 = 64
# Images that a batch in evaluation on a CPU is taken to have, whatever it has.
_IMAGES = 128
# Not their subclasses, which draw in another way.
_FUSED = (GumbelSoftmax, StraightThrough, ReinMax)


class KernelChoice:
    """Which version a code book uses, said once in training for each that it comes to.

    Args:
        kernel: What was asked for.
        estimator: How the gradient crosses the draw in training.

    Raises:
        ValueError: There is no such version, or not for this estimator, or not installed.
    """

    def __init__(self, kernel: Kernel, estimator: Estimator) -> None:
        check_choice("kernel", kernel, Kernel)
        if kernel in ("blocked", "triton") and type(estimator) not in _FUSED:
            raise ValueError(
                f"kernel={kernel!r} needs the estimator GumbelSoftmax, StraightThrough or ReinMax; "
                f"got {type(estimator).__name__} (allowed with it: auto, plain)"
            )
        if kernel == "triton" and type(estimator) is ReinMax:
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
        self._fits: dict[int, bool] = {}

    def __call__(
        self,
        estimator: Estimator,
        grid: Tensor,
        codebook: Tensor,
        training: bool,
        half: bool = False,
    ) -> Backend | None:
        """Choose for features, by estimator, device and size.

        In evaluation on a CPU the size is that of an image: were it that of the batch, what an
        image draws would depend on the images beside it.

        Args:
            estimator: How the gradient crosses the draw now: a probe takes others than training's.
            grid: ``(B, H, W, in_features)``.
            codebook: ``(K, D)``.
            training: Whether this is a step of a training.
            half: Whether products may be of half precision.

        Returns:
            The version, or ``None`` for the matrices of logits.
        """
        positions = math.prod(grid.shape[:-1])
        chosen = self._choose(estimator, grid, codebook, training, half)
        name = chosen or "plain"
        if training and name not in self._said:
            self._said.add(name)
            log.info(
                "code book: kernel %s (%s) for %d positions of %d codes on %s",
                *(name, self.kernel, positions, len(codebook), grid.device.type),
            )
        return chosen

    def _choose(
        self, estimator: Estimator, grid: Tensor, codebook: Tensor, training: bool, half: bool
    ) -> Backend | None:
        if self.kernel == "plain" or type(estimator) not in _FUSED:
            return None
        on_cpu = grid.device.type == "cpu"
        if self.kernel == "triton" and on_cpu and not training:
            return "blocked"  # what was trained on a GPU is looked at anywhere
        if self.kernel != "auto":
            return self.kernel
        images = _IMAGES if on_cpu and not training else len(grid)
        numbers = images * math.prod(grid.shape[1:-1]) * len(codebook)
        if on_cpu:
            return None if numbers < _CROSSOVER else "blocked"
        width, dim = grid.shape[-1], codebook.shape[1]
        refused = triton_refusal(grid.device, width, dim, grid.dtype)
        triton = not refused and type(estimator) is not ReinMax
        tf32 = torch.get_float32_matmul_precision() != "highest"
        if triton and (half or (tf32 and max(width, dim) <= _WIDEST_TF32)):
            return "triton"
        if self._fit(numbers, grid.device):
            return None
        return "triton" if triton else "blocked"

    def _fit(self, numbers: int, device: torch.device) -> bool:
        """Say whether matrices of so many numbers leave room on a GPU; asked once for each size."""
        if device.type != "cuda":
            return True  # another accelerator is not asked
        if numbers not in self._fits:
            free, _ = torch.cuda.mem_get_info(device)
            # What the allocator keeps for later is free, too.
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            self._fits[numbers] = 4 * _MATRICES * numbers < _SHARE * free
        return self._fits[numbers]


def fused_seed(
    images: int,
    backend: Backend,
    device: torch.device,
    generator: Generator | None = None,
    samples: Sequence[int] = (),
) -> Tensor:
    """Draw the seeds of sweeps over a batch.

    On a CPU each image has its own, as it has a stretch of the stream of the plain path's noise:
    what it draws does not depend on the images beside it. Elsewhere, as in the plain path, it does.

    Args:
        images: B.
        backend: The version; Triton takes one seed.
        device: Device of the features.
        generator: Where the seeds come from; the global one by default.
        samples: How many sweeps, if not one: ``(S,)``.

    Returns:
        Integers ``(*samples, B)``, or ``samples``.
    """
    if device.type != "cpu" or backend == "triton":
        return draw_seed(generator, device, samples)
    return draw_seed(generator, device, (images, *samples)).movedim(0, -1)


def fused_draw(
    rows: Tensor,
    images: int,
    book: Book,
    estimator: Estimator,
    backend: Backend,
    generator: Generator | None = None,
) -> Sweep:
    """Draw vectors with the gradient of an estimator, as its layer on the logits would.

    Args:
        rows: Features ``(N, in_features)``, image after image.
        images: B, which divides N.
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
    seed = fused_seed(images, backend, rows.device, generator)
    relaxation = Relaxation(tau, hard, noisy, heun=isinstance(estimator, ReinMax))
    found: Sweep = sweep(rows, book, relaxation, seed, backend)
    # NaN where the logits have no finite maximum.
    check_top(found.kl)
    return found
