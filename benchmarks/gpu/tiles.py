"""Candidates for the tiles of the Triton kernels: milliseconds of each, to choose a table from.

What is chosen stands in `dvae.kernels.triton_sweep`. Kernels are compiled by a process for each
processor first, so that the GPU does not wait for the compiler.
"""

import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import torch

from benchmarks.gpu.part import arguments, now, table
from dvae.kernels import Book, Relaxation, draw_seed, sweep, triton_sweep
from dvae.kernels.triton_sweep import Tile

__all__ = ["tasks"]

ROWS, CODES = 65_536, 8192
# Tiles of each kind of product and width: rows, codes. Others spill (`benchmarks.gpu.registers`).
SHAPES = {
    ("bf16", 64): ((128, 64), (64, 64), (64, 32), (128, 32), (64, 128)),
    ("bf16", 256): ((64, 64), (64, 32), (128, 32), (32, 64)),
    ("tf32", 64): ((128, 32), (64, 64), (64, 32), (32, 64)),
    ("tf32", 256): ((32, 32), (64, 32), (64, 16)),
    ("tf32x3", 64): ((64, 32), (64, 64), (32, 32)),
    ("tf32x3", 256): ((32, 32), (64, 16)),
    ("ieee", 64): ((32, 32), (64, 16), (16, 32)),
}
WARPS = (4, 8)
STAGES = {64: (2, 3), 256: (1, 2)}
DTYPES = {"bf16": torch.bfloat16}
# Rows of the timing: enough to fill the card.
SHARE = {"bf16": 1, "tf32": 4, "tf32x3": 8, "ieee": 16}


def tasks() -> list[tuple[str, int, str, Tile]]:
    """List kernel, width, kind of product and tile of all candidates, the most used kinds first."""
    return [
        (kernel, width, kind, Tile(*shape, warps, stages))
        for (kind, width), shapes in SHAPES.items()
        for kernel in ("forward", "codes_backward")
        for shape, warps, stages in itertools.product(shapes, WARPS, STAGES[width])
    ]


def measure(task: tuple[str, int, str, Tile, float]) -> tuple[float, str]:
    """Compile and time one kernel at one tile: milliseconds, and what went wrong.

    Args:
        task: Kernel, width, kind, tile, and the seconds that timing may take (0: compile only).
    """
    kernel, width, kind, tile, seconds = task
    dtype = DTYPES.get(kind, torch.float32)
    rows = ROWS // SHARE[kind] if seconds else 4096
    device = "cuda"

    def made(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, device=device) * width**-0.5).to(dtype)

    leaves = [made(rows, width), made(CODES, width), made(CODES), made(CODES, width)]
    book = Book(leaves[1], leaves[2], leaves[3], None)
    relaxation = Relaxation(torch.tensor(0.7, device=device), hard=False)
    small = Tile(64, 32, 4, 1) if width <= 64 else Tile(32, 32, 4, 1)

    def chosen(name: str, size: int, widest: int) -> Tile:
        return tile if name == kernel else small

    try:
        precision = "tf32" if kind == "bf16" else kind
        with (
            mock.patch.object(triton_sweep, "tile_of", chosen),
            mock.patch.object(triton_sweep, "precision_of", lambda: precision),
        ):
            if kernel == "forward":

                def call() -> None:
                    with torch.no_grad():
                        sweep(leaves[0], book, relaxation, draw_seed(device=device), "triton")
            else:
                for leaf in leaves:
                    leaf.requires_grad_()
                found = sweep(leaves[0], book, relaxation, draw_seed(device=device), "triton")
                grads = [torch.ones_like(found.code), torch.ones_like(found.kl)]

                def call() -> None:
                    torch.autograd.grad([found.code, found.kl], leaves, grads, retain_graph=True)

            start = now(device)
            call()
            first = now(device) - start
            if not seconds:
                return first * 1e3, ""
            times = []
            while sum(times) < seconds and len(times) < 10:
                start = now(device)
                call()
                times.append(now(device) - start)
            return 1e3 * sorted(times)[len(times) // 2], ""
    except Exception as error:
        return float("inf"), " ".join(str(error).split())[:80]


def main() -> None:
    """Compile all, time all, and print the best of each."""
    args = arguments(__doc__ or "", kinds="bf16,tf32,tf32x3,ieee", limit=120.0)
    started = time.perf_counter()
    todo = [(*task, 0.0) for task in tasks() if task[2] in args.kinds.split(",")]
    good = []
    workers = min(16, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers) as pool:
        futures = [(task, pool.submit(measure, task)) for task in todo]
        for task, future in futures:
            try:
                ms, said = future.result(max(0.1, args.limit - (time.perf_counter() - started)))
            except TimeoutError:
                future.cancel()
                continue
            if not said:
                good.append(task)
        for process in list(pool._processes.values()):
            process.kill()
    print(
        f"{len(good)} of {len(todo)} compiled in {time.perf_counter() - started:.0f} s", flush=True
    )
    rows: list[dict[str, object]] = []
    for kernel, width, kind, tile, _ in good:
        ms, said = measure((kernel, width, kind, tile, 0.05))
        rows.append(
            {
                "kernel": kernel,
                "kind": kind,
                "width": width,
                **tile._asdict(),
                "ms": round(ms, 3),
                "said": said,
            }
        )
    rows.sort(key=lambda r: (r["kernel"], r["kind"], r["width"], r["ms"]))
    table("tiles", rows, args)
    best: dict[tuple[object, ...], dict[str, object]] = {}
    for row in rows:
        best.setdefault((row["kernel"], row["kind"], row["width"]), row)
    for row in best.values():
        print("best", row, flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
