"""What a step costs beside its arithmetic, left out where nobody asked for it."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.profilers import PassThroughProfiler

__all__ = ["drop_idle_profiler", "prepare_cpu"]


def prepare_cpu() -> None:
    """Have this process compute on a CPU as fast as it can; once, before a training.

    Numbers below 1e-38, in which low temperatures and Adam's moments of dead pixels end, are taken
    for zero: a CPU computes many times slower with them, and the default run's last epochs took 2.3
    times as long. Where there is no GPU, ``CUDA_VISIBLE_DEVICES`` becomes empty: otherwise torch's
    Adam searches the disk for a driver at every step, a third of a millisecond each.
    """
    torch.set_flush_denormal(True)
    # Not is_available, which may leave CUDA unusable in a process that is forked later.
    if not torch.cuda.device_count():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def drop_idle_profiler(trainer: Trainer) -> None:
    """Take the stopwatch away from a trainer that has not been asked for a profile.

    Lightning opens ninety contexts a step for a profiler that does nothing.

    Args:
        trainer: Trainer of a fit that begins; one with a profiler keeps it.
    """
    if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
        trainer.profiler = _NoProfiler()  # type: ignore[attr-defined]


class _NoProfiler(PassThroughProfiler):
    _nothing: AbstractContextManager[Any] = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self._nothing
