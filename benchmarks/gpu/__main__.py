"""Every question that only a GPU can answer, in parts, in order of worth.

    benchmarks/gpu_wheels.sh                          # packages for a machine without an index
    python -m benchmarks.gpu                          # all parts, in 480 seconds
    python -m benchmarks.gpu --only kernels steps     # some of them
    python -m benchmarks.gpu --device cpu --budget 300   # what can be told without one

Each part is a process of its own with its own limit, and writes its tables when it ends, so that a
machine that is taken away costs one part. What a part printed is in ``gpu_NAME.log`` beside its
table, and how all ended in ``gpu.csv``.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, machine, write_csv

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Part:
    """A process that answers one question.

    Attributes:
        name: Name of the part, and of its module in this package.
        seconds: It is stopped after this long.
        options: Options of the module, beside ``--device`` and ``--out``.
        needs_cuda: Whether there is nothing to be told without a GPU.
    """

    name: str
    seconds: int
    options: tuple[str, ...] = ()
    needs_cuda: bool = False


PARTS = (
    Part("versions", 20),
    Part("kernels", 120),
    Part("steps", 60),
    Part("training", 100),
    Part("compiled", 120),
    Part("resume", 90),
    Part("layer", 120),
    Part("jobs", 70),
    Part("tables", 240, needs_cuda=True),
    Part("nan", 40),
    # Only when asked for: the candidates for the table of tiles in `dvae.kernels.triton_sweep`.
    Part("tiles", 240, needs_cuda=True),
    Part("tokenizer", 400),
)
ASKED_FOR = ("tiles", "tokenizer")


def run(part: Part, device: str, out: Path, left: float) -> dict[str, object]:
    """Run a part and say how it ended.

    Args:
        part: Which.
        device: ``cpu`` or ``cuda``.
        out: Folder of its table and its log.
        left: Seconds that are left for all parts.
    """
    if part.needs_cuda and device == "cpu":
        return {"part": part.name, "ended": "needs CUDA", "seconds": 0.0, "said": ""}
    limit = min(part.seconds if device == "cuda" else 3 * part.seconds, left)
    if limit < 10:
        return {"part": part.name, "ended": "no time left", "seconds": 0.0, "said": ""}
    command = [sys.executable, "-m", f"benchmarks.gpu.{part.name}", "--device", device]
    command += ["--out", str(out), *part.options]
    path = out / f"gpu_{part.name}.log"
    start = time.perf_counter()
    with path.open("w") as log:
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            ended = "passed" if child.wait(limit) == 0 else f"failed ({child.returncode})"
        except subprocess.TimeoutExpired:
            ended = f"cut after {limit:.0f} s"
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    said = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    seconds = round(time.perf_counter() - start, 1)
    return {"part": part.name, "ended": ended, "seconds": seconds, "said": (said or [""])[-1][:200]}


def main() -> None:
    """Run the parts, and write how they ended after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all parts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of tables and logs")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device cpu tells what can be told without one")
    args.out.mkdir(parents=True, exist_ok=True)
    start, rows = time.perf_counter(), []
    for part in PARTS:
        if part.name in ASKED_FOR and not args.only:
            continue
        if args.only and part.name not in args.only:
            continue
        row = run(part, args.device, args.out, args.budget - (time.perf_counter() - start))
        rows.append(row)
        print("{part:10} {ended:16} {seconds:6} s  {said}".format(**row), flush=True)
        write_csv("gpu", rows, args.out, where=machine(args.device))
    failed = [str(row["part"]) for row in rows if str(row["ended"]).startswith(("failed", "cut"))]
    if failed:
        sys.exit(f"did not pass: {', '.join(failed)}")


if __name__ == "__main__":
    main()
