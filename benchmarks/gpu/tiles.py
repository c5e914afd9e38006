"""Candidates for the tiles of the Triton kernels: milliseconds of each, to choose a table from.

What is chosen stands in `dvae.kernels.triton_sweep`. Compiled beforehand by
``python -m benchmarks.gpu.registers --candidates 1``, they are found in Triton's cache.
"""

import itertools
import multiprocessing
import os
import queue
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.part import arguments, now, table
from dvae.kernels import Book, Relaxation, draw_seed, sweep, triton_sweep
from dvae.kernels.triton_sweep import Tile

__all__ = ["tasks"]

ROWS, CODES = 65_536, 8192
# Tiles of each kernel, kind of product and width: rows, codes. Larger ones spill.
SHAPES = {
    ("forward", "bf16", 64): ((128, 64), (64, 64), (64, 32), (128, 32)),
    ("codes_backward", "bf16", 64): ((64, 32), (128, 32), (64, 16), (32, 32)),
    ("forward", "bf16", 256): ((64, 32), (32, 64), (128, 32)),
    ("codes_backward", "bf16", 256): ((32, 64), (32, 32), (64, 16), (16, 64)),
    ("forward", "tf32", 64): ((128, 32), (64, 64), (64, 32), (32, 64)),
    ("codes_backward", "tf32", 64): ((32, 64), (32, 32), (64, 16)),
    ("forward", "tf32", 256): ((32, 32), (64, 32), (64, 16)),
    ("codes_backward", "tf32", 256): ((16, 32), (32, 16), (16, 16)),
    ("forward", "ieee", 64): ((32, 32), (64, 16), (16, 32)),
    ("codes_backward", "ieee", 64): ((16, 32), (32, 16), (16, 16)),
}
WARPS = (4, 8)
STAGES = {64: (2, 3), 256: (1, 2)}
DTYPES = {"bf16": torch.bfloat16}
# Rows of the timing: enough to fill the card.
SHARE = {"bf16": 1, "tf32": 4, "ieee": 16}


Task = tuple[str, int, str, Tile]
Row = dict[str, Any]


def tasks() -> list[Task]:
    """List kernel, width, kind of product and tile of all candidates, the most used kinds first."""
    return [
        (kernel, width, kind, Tile(*shape, warps, stages))
        for (kernel, kind, width), shapes in SHAPES.items()
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
    others = triton_sweep.tile_of

    def chosen(name: str, arithmetic: str, widest: int) -> Tile:
        return tile if name == kernel else others(name, arithmetic, widest)

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


def in_turn(todo: Sequence[Task], out: "Queue[Row | None]") -> None:
    """Measure in a process of its own, which a kernel that fails may end.

    Args:
        todo: What to measure.
        out: Where the rows go, and ``None`` at the end.
    """
    for kernel, width, kind, tile in todo:
        ms, said = measure((kernel, width, kind, tile, 0.04))
        what = {"kernel": kernel, "kind": kind, "width": width, **tile._asdict()}
        out.put({**what, "ms": round(ms, 3), "said": said})
        if "CUDA error" in said:
            os._exit(1)
    out.put(None)


def main() -> None:
    """Time all, and print the best of each."""
    args = arguments(__doc__ or "", kinds="bf16,tf32,ieee", seconds=100.0)
    until = time.perf_counter() + args.seconds
    context = multiprocessing.get_context("fork")
    rows: list[Row] = []
    todo = [task for task in tasks() if task[2] in args.kinds.split(",")]
    while todo and time.perf_counter() < until:
        out: Queue[Row | None] = context.Queue()
        child = context.Process(target=in_turn, args=(todo, out))
        child.start()
        while time.perf_counter() < until:
            try:
                row = out.get(timeout=1.0)
            except queue.Empty:
                if child.is_alive():
                    continue
                todo = todo[1:]  # it died without a word
                break
            if row is None:
                todo = []
                break
            rows.append(row)
            todo = todo[1:]
            print(row, flush=True)
        child.kill()
        child.join()
    rows.sort(key=lambda r: (r["kernel"], r["kind"], r["width"], r["ms"]))
    table("tiles", rows, args)
    best: dict[tuple[object, ...], Row] = {}
    for row in rows:
        best.setdefault((row["kernel"], row["kind"], row["width"]), row)
    for (kernel, kind, width), row in best.items():
        tile = Tile(*(row[name] for name in Tile._fields))
        arithmetic = "half" if kind == "bf16" else kind
        print(f'    ("{kernel}", "{arithmetic}", {width}): {tuple(tile)},  # {row["ms"]} ms')


if __name__ == "__main__":
    main()
