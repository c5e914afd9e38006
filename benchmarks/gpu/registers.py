"""Registers, spills and shared memory of the Triton kernels, compiled for a card elsewhere.

    python -m benchmarks.gpu.registers --device cpu --out benchmarks/results

With ``--candidates 1`` those of the tiles that `benchmarks.gpu.tiles` tries. What is compiled stays
in Triton's cache (``TRITON_CACHE_DIR``), where a GPU of that kind finds it with the same Triton.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from benchmarks.gpu.part import arguments, table
from dvae.kernels import Book, Relaxation, triton_sweep
from dvae.kernels.triton_sweep import Tile, tile_of

__all__ = ["Usage", "compiled", "usage"]

KINDS = {"bf16": (torch.bfloat16, "tf32"), "tf32": (torch.float32, "tf32")}
KINDS |= {"ieee": (torch.float32, "ieee")}
KERNELS = ("forward", "codes_backward", "rows_backward")
Usage = dict[str, object]


class Absent:
    """A driver of a card that only the compiler hears of."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """Return what to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """Return the number of the card."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return no stream."""
        return 0


@contextmanager
def compiled(capability: int) -> Iterator[list[Any]]:
    """Let launches compile for a card and not run; collects what was compiled.

    Args:
        capability: Such as 90 for an H100.
    """
    found: list[Any] = []

    def launch(kernel: Any, grid: Any, *args: Any, **given: Any) -> None:
        found.append(kernel.warmup(*args, grid=grid, **given))

    for name in KERNELS:
        getattr(triton_sweep.kernels, name).device_caches.clear()
    driver.set_active(Absent(capability))  # for good: there may be no other to go back to
    with mock.patch.object(
        JITFunction, "__getitem__", lambda self, grid: partial(launch, self, grid)
    ):
        yield found


def usage(kernel: Any) -> Usage:
    """Read what a compiled kernel needs of a processor."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        said = subprocess.run(
            [str(tool), "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    (line,) = [x for x in said.splitlines() if "REG:" in x]
    words = dict(word.split(":")[:2] for word in line.split() if ":" in word)
    ptx = kernel.asm["ptx"]
    return {
        "registers": int(words["REG"]),
        "stack_bytes": int(words["STACK"]),
        "shared_kib": kernel.metadata.shared // 1024,
        "tensor_cores": "wgmma" if "wgmma" in ptx else "mma" if "mma.sync" in ptx else "none",
    }


def build(kernel: str, kind: str, width: int, tile: Tile) -> Any:
    """Compile one kernel, through the functions that launch it.

    Args:
        kernel: Its name.
        kind: Kind of the numbers and their products.
        width: C and D.
        tile: How it is cut.
    """
    dtype, precision = KINDS[kind]
    leaves = [torch.ones(s, dtype=dtype) for s in ((64, width), (128, width), (128,), (128, width))]
    relaxation = Relaxation(torch.tensor(0.7), hard=False)
    launch = triton_sweep._launch

    def only(name: str, *args: Any, **given: Any) -> None:
        if name == kernel:
            launch(name, *args, **given)

    with (
        mock.patch.object(triton_sweep, "tile_of", lambda *given: tile),
        mock.patch.object(triton_sweep, "precision_of", lambda: precision),
        mock.patch.object(triton_sweep, "_launch", only),
    ):
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(kernel == "rows_backward")
        for leaf in leaves:
            leaf.requires_grad_()
        found = triton_sweep.triton_sweep(leaves[0], Book(*leaves[1:]), relaxation, torch.tensor(1))
        if kernel != "forward":
            grads = [torch.ones_like(found.code), torch.ones_like(found.kl)]
            torch.autograd.grad([found.code, found.kl], leaves, grads)
        torch.use_deterministic_algorithms(deterministic)


def main() -> None:
    """Compile all, print and write what they need; fail where one of the table's spills."""
    from benchmarks.gpu.tiles import tasks

    args = arguments(
        __doc__ or "", capability=90, candidates=0, kinds="bf16,tf32,ieee", widths="64,256"
    )
    rows: list[Usage] = []
    todo = (
        [(kernel, width, kind, tile) for kernel, width, kind, tile in tasks()]
        if args.candidates
        else [
            (kernel, width, kind, tile_of(kernel, "half" if kind == "bf16" else kind, width))
            for kernel in KERNELS
            for kind in args.kinds.split(",")
            for width in map(int, args.widths.split(","))
        ]
    )
    for kernel, width, kind, tile in todo:
        with compiled(args.capability) as found:
            try:
                build(kernel, kind, width, tile)
                row = usage(found[0])
            except Exception as error:
                row = {
                    "registers": 0,
                    "stack_bytes": 0,
                    "shared_kib": 0,
                    "tensor_cores": str(error)[:40],
                }
        rows.append({"kernel": kernel, "kind": kind, "width": width, **tile._asdict(), **row})
        print(rows[-1], flush=True)
    table("candidates" if args.candidates else "registers", rows, args)
    sys.exit(any(row["stack_bytes"] for row in rows) and not args.candidates)


if __name__ == "__main__":
    main()
