"""Start a module of the tests in several processes, as torchrun does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

_TIMEOUT = 240  # seconds; nearly all of the time goes to importing torch


def ranks_of(module: str, folder: Path, processes: int) -> list[Any]:
    """Run a module with the folder as its argument, and return what each rank saved in it."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, "-m", module, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]
