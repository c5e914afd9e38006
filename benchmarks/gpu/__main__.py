"""Every question that only a GPU can answer, in parts, in order of worth.

    benchmarks/gpu_wheels.sh                          # packages for a machine without an index
    python -m benchmarks.gpu                          # all parts, in 480 seconds
    python -m benchmarks.gpu --only kernels steps     # some of them
    python -m benchmarks.gpu --device cpu --budget 300   # what can be told without one

Each part is a process of its own with its own limit, and writes its tables when it ends, so that a
machine that is taken away costs one part. What a part printed is in ``gpu_NAME.log`` beside its
table, and how all ended in ``gpu.csv``, which keeps what it has of other parts. Those of a CPU go
to ``runs/gpu``, unless ``--out`` names another folder.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.part import folder_of, where
from benchmarks.measure import write_csv

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
    if limit < 5:
        return {"part": part.name, "ended": "no time left", "seconds": 0.0, "said": ""}
    command = [sys.executable, "-m", f"benchmarks.gpu.{part.name}", "--device", device]
    command += ["--out", str(out), *part.options]
    path = out / f"gpu_{part.name}.log"
    # On a CPU sizes are small: two threads would wait for each other wherever other work runs.
    env = os.environ | ({"OMP_NUM_THREADS": "1"} if device == "cpu" else {})
    start = time.perf_counter()
    with path.open("w") as log:
        child = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            ended = "passed" if child.wait(limit) == 0 else f"failed ({child.returncode})"
        except subprocess.TimeoutExpired:
            ended = f"cut after {limit:.0f} s"
        except KeyboardInterrupt:
            ended = "interrupted"
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    said = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    seconds = round(time.perf_counter() - start, 1)
    return {"part": part.name, "ended": ended, "seconds": seconds, "said": (said or [""])[-1][:200]}


def ended_before(out: Path) -> list[dict[str, str]]:
    """Read how parts ended in earlier runs.

    Args:
        out: Folder of the table.
    """
    path = out / "gpu.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Run the parts, and write how they ended after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all parts")
    parser.add_argument("--out", type=Path, help="folder of tables and logs")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device cpu tells what can be told without one")
    args.out = (args.out or folder_of(args.device)).resolve()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out is no folder: {error}")
    chosen = [p for p in PARTS if (p.name in args.only if args.only else p.name not in ASKED_FOR)]
    before = ended_before(args.out)
    start, rows = time.perf_counter(), []
    for part in chosen:
        row = run(part, args.device, args.out, args.budget - (time.perf_counter() - start))
        rows.append(row)
        print("{part:10} {ended:16} {seconds:6} s  {said}".format(**row), flush=True)
        before = [old for old in before if old["part"] != part.name]
        write_csv("gpu", [*rows, *before], args.out, where=where(args.device))
        if row["ended"] == "interrupted":
            break
    failed = [str(row["part"]) for row in rows if row["ended"] not in ("passed", "needs CUDA")]
    if failed:
        sys.exit(f"did not pass: {', '.join(failed)}")


if __name__ == "__main__":
    main()
