"""Images a second of the main job beside a bare loop and what tutorials write."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.part import arguments, table
from benchmarks.measure import ratio, spread
from benchmarks.training import SILENT, bare, ours, peer, silent, unpack_mnist

__all__ = ["main"]


def main() -> None:
    """Take turns, so that what else the machine does falls on all."""
    args = arguments(__doc__ or "", rounds=0, steps=0)
    on_gpu = args.device == "cuda"
    rounds = args.rounds or (3 if on_gpu else 1)
    steps = args.steps or (400 if on_gpu else 20)
    warm_up = 100 if on_gpu else 10
    captured = partial(ours, compile="cuda-graphs", device=args.device)
    ways: dict[str, Callable[[int, Path, int], float]] = {
        "ours": lambda *given: ours(*given, device=args.device),
        SILENT: lambda *given: silent(*given, device=args.device),
        **({"ours, captured": captured} if on_gpu else {}),
        "bare loop": lambda *given: bare(*given, device=args.device),
        "peer, no workers": peer(0, args.device),
        "peer, 4 workers": peer(4, args.device),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_mnist(folder)
        for _ in range(rounds):
            for way, run in ways.items():
                speeds[way].append(run(warm_up + steps, folder, warm_up))
                print(way, round(speeds[way][-1]), flush=True)
    rows: list[dict[str, object]] = []
    for way, values in speeds.items():
        median, low, high = spread(values)
        r, r20, r80 = ratio(speeds["ours"], values)
        rows.append(
            {
                "way": way,
                "images_per_second": round(median),
                "p20": round(low),
                "p80": round(high),
                "ours_over_this": round(r, 2),
                "ratio_p20": round(r20, 2),
                "ratio_p80": round(r80, 2),
                "rounds": rounds,
            }
        )
    table("jobs", rows, args)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
