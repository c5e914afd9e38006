"""All benchmarks in turn, each in a process of its own, and a short table of what they found.

    python benchmarks/run.py                    # on an otherwise idle machine
    python benchmarks/run.py bottleneck layer   # some of them
    python benchmarks/run.py --full             # all sizes and more rounds: three times as long
    python -m benchmarks.readme                 # then: the figures into the pages

A GPU is used where there is one by those that can.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
# A name, what it is run with on a CPU and on a GPU, and of its rows: what it is, ratio and spread.
CPU = ["--threads", str(torch.get_num_threads())]
CUDA = ["--device", "cuda"]
BOTH = ["--dtype", "bfloat16", "--dtype", "float32"]
RUNS = {
    "bottleneck": (
        CPU,
        CUDA + BOTH,
        ("rows", "codes", "features", "dtype", "way"),
        "over_fused_{}",
    ),
    "training": (["--rounds", "3"], ["--rounds", "3"], ("way",), "ratio_{}"),
    "estimators": (CPU, CUDA, ("latents", "codes", "estimator", "settings"), "cost_{}"),
    "layer": (CPU, CUDA, ("shape",), "speedup_{}"),
    "sampling": (CPU, CUDA, ("images", "without"), "speedup_{}"),
    "growth": (["--rounds", "2"], ["--rounds", "2"], ("varied", "value"), "{}"),
}
# What makes a run short, on a CPU and on a GPU.
SHORT = {
    "bottleneck": (["--rounds", "5", "--largest", str(2**23)], ["--rounds", "5"]),
    "training": (["--steps", "80", "--warm_up", "20", "--rounds", "2"],) * 2,
    "estimators": (["--rounds", "20"], ["--rounds", "20"]),
    "layer": (["--pairs", "20"], ["--pairs", "20"]),
    "sampling": (["--rounds", "4"], ["--rounds", "4"]),
    "growth": (["--images", "2000", "--rounds", "1"], ["--images", "2000", "--rounds", "1"]),
}
MEDIAN = {"training": "ours_over_this", "growth": "microseconds_per_image"}
MEANING = {
    "bottleneck": "time of this way / fused",
    "training": "images per second, ours / this",
    "estimators": "time of this estimator / GumbelSoftmax",
    "layer": "time of F.gumbel_softmax / ours",
    "sampling": "time of drawing codes without the cache / with it",
    "growth": "microseconds an image",
}


def table(name: str, seconds: float) -> None:
    """Print the ratios that a benchmark wrote down."""
    _, _, what, ratio = RUNS[name]
    with (ROOT / "benchmarks" / "results" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # What is kept of another day comes after what was measured now.
    rows = [row for row in rows if row["date"] == rows[0]["date"]]
    where = f"{rows[0]['device']}, {rows[0]['threads']} thread(s), torch {rows[0]['torch']}"
    print(f"\n{name}: {MEANING[name]}, median (p20 to p80); {seconds:.0f} s; {where}")
    for row in rows:
        median = row[MEDIAN.get(name, ratio.format("median"))]
        spread = f"({row[ratio.format('p20')]} to {row[ratio.format('p80')]})"
        print(f"  {' '.join(row[key] for key in what):52} {median:>7} {spread}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run them, then print the tables; what failed is named, and makes the exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(RUNS)}; or all")
    parser.add_argument("--full", action="store_true", help="all sizes, and more rounds")
    args = parser.parse_args(argv)
    names = args.names or list(RUNS)
    for name in names:
        if name not in RUNS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(RUNS)}")
    took: dict[str, float] = {}
    for name in names:
        gpu = torch.cuda.is_available()
        options = [*RUNS[name][gpu], *([] if args.full else SHORT[name][gpu])]
        print(f"\n== python -m benchmarks.{name} {' '.join(options)}", flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT)
        if done.returncode == 0:
            took[name] = time.perf_counter() - start
    for name, seconds in took.items():
        table(name, seconds)
    print(f"\n{len(took)} benchmark(s) in {sum(took.values()) / 60:.1f} minutes")
    failed = [name for name in names if name not in took]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
