"""The loops over a block, compiled by the machine's own C compiler where it has one.

A loop in torch's operations goes through memory once for each of them, about sixty times a step;
compiled, all of it happens in registers. `loops.c` is compiled when it is first needed, for the
processor that it runs on, which takes a fraction of a second; nothing is kept on the disk. Without
a compiler the loops in torch's operations give the same results.
"""

import ctypes
import logging
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dvae.kernels.loops import Loops, RowTerms, TorchLoops

__all__ = ["NativeLoops", "pick_loops"]

log = logging.getLogger("dvae")

_SOURCE = Path(__file__).with_name("loops.c")
_FLAGS = ("-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
# The first that the compiler takes and that can be loaded. What OpenMP needs is not linked: it is
# that of torch, which is loaded already and has the threads.
_VARIANTS = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-mcpu=native", "-fopenmp-simd"),
    (),
)
_SECONDS = 60


def pick_loops(device: torch.device, dtype: torch.dtype) -> Loops:
    """Choose the compiled loops for float32 on a CPU, where there is a compiler.

    Args:
        device: Device of the computation.
        dtype: Dtype of the computation.
    """
    native = _native() if device.type == "cpu" and dtype == torch.float32 else None
    return TorchLoops() if native is None else native


@cache
def _native() -> "NativeLoops | None":
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    for variant in _VARIANTS if compiler else ():
        try:
            return NativeLoops(_compile([str(compiler), *_FLAGS, *variant]))
        except (OSError, subprocess.SubprocessError):
            continue
    log.info("code book: no C compiler that works, so its loops are torch's operations")
    return None


def _compile(command: list[str]) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        built, library = f"{folder}/loops.o", f"{folder}/loops.so"
        for step in (
            [*command, "-c", str(_SOURCE), "-o", built],
            [command[0], "-shared", built, "-lm", "-o", library],
        ):
            subprocess.run(step, check=True, capture_output=True, timeout=_SECONDS)
        # Once it is loaded the file may go.
        return ctypes.CDLL(library)


class NativeLoops:
    """The loops of a compiled library; see `Loops`.

    Args:
        library: What `loops.c` was compiled to.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def _run(self, name: str, x: Tensor, *arguments: Tensor | int | float | None) -> None:
        rows, codes = x.shape
        sizes = ctypes.c_int64(rows), ctypes.c_int64(codes), ctypes.c_int(torch.get_num_threads())
        getattr(self._library, name)(*sizes, *map(_argument, (x, *arguments)))

    def add_noise(
        self, logits: Tensor, keys: Tensor, columns: Tensor, out: Tensor, spare: Tensor
    ) -> Tensor:
        """See `Loops.add_noise`."""
        self._run("add_noise", logits, keys[0], keys[1], columns, out)
        return out

    def raise_maxima(self, x: Tensor, highest: Tensor, place: Tensor, start: int) -> Tensor:
        """See `Loops.raise_maxima`."""
        highest = highest.clone()
        self._run("raise_maxima", x, start, highest, place)
        return highest

    def weigh(self, x: Tensor, peak: Tensor, rate: Tensor) -> Tensor:
        """See `Loops.weigh`."""
        total = torch.empty_like(peak)
        self._run("weigh", x, peak, rate.item(), total)
        return total

    def diverge(
        self, logits: Tensor, top: Tensor, log_prior: Tensor | None, spare: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Loops.diverge`."""
        total, moment = torch.empty_like(top), torch.empty_like(top)
        log_prior = _given(log_prior, logits)
        self._run("diverge", logits, top, log_prior, logits, total, moment)
        return logits, total, moment

    def gradient(
        self,
        logits: Tensor,
        pull: Tensor | None,
        weights: Tensor,
        terms: RowTerms,
        start: int,
        log_prior: Tensor | None,
        spare: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `Loops.gradient`."""
        if pull is None:
            weights.zero_()
            pull = weights
        log_prior = _given(log_prior, logits)
        self._run(
            "gradient", logits, pull, weights, spare, log_prior, start, terms.winner, terms.stacked
        )
        return weights, spare


def _given(log_prior: Tensor | None, logits: Tensor) -> Tensor:
    return logits.new_zeros(logits.shape[1]) if log_prior is None else log_prior


def _argument(value: Tensor | int | float | None) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_float(value)
    return None if value is None else ctypes.c_int64(value)
