"""A long run of the main job, its memory and open files watched: neither may grow.

python -m benchmarks.soak --minutes 30
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.measure import write_csv

ROOT = Path(__file__).parent.parent
MIB = 2**20
EVERY = 10.0  # seconds
SHOWN = 6  # one line for so many looks
# Until a run has done each of its things once it fills its caches, and the last of them is to draw
# the code, after ten epochs: that loads matplotlib with its fonts, 40 MiB once and for all.
WARM_UP = 180.0
LAST_OF_ALL = "mnist_categorical/version_0/media/latent_usage/*.png"


def look(process: psutil.Process) -> tuple[float, int]:
    """Return the memory of a process, MiB, and the number of its open files.

    Not of its children: the logger's server is another program's.

    Args:
        process: The training.
    """
    return process.memory_info().rss / MIB, process.num_fds()


def opened(process: psutil.Process) -> list[str]:
    """Name what a process has open, to tell two looks apart.

    Args:
        process: The training.
    """
    names = []
    for path in Path(f"/proc/{process.pid}/fd").glob("*"):
        # One may be closed between the listing and the look.
        with contextlib.suppress(OSError):
            names.append(path.readlink().name)
    return sorted(names)


def main() -> None:
    """Train, watch, stop, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    warm_up = min(WARM_UP, 15 * minutes)
    words = ["train.py", "fit", "--config", "configs/mnist_categorical.yaml"]
    # Longer than anybody waits, so that the schedules move all the way.
    words += ["--trainer.max_epochs", "100000", "--trainer.enable_progress_bar", "false"]
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        words += ["--trainer.default_root_dir", folder]
        print("python", *words, flush=True)
        run = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=log, stderr=log)
        process, start = psutil.Process(run.pid), time.monotonic()
        while (elapsed := time.monotonic() - start) < 60 * minutes:
            time.sleep(EVERY)
            if run.poll() is not None:
                said = (Path(folder) / "log").read_text()
                sys.exit(f"the run ended after {elapsed:.0f} s:\n{said}")
            if elapsed >= warm_up and any(Path(folder).glob(LAST_OF_ALL)):
                seen.append(look(process))
                if len(seen) % SHOWN == 1:
                    print(
                        f"{elapsed / 60:5.1f} min {seen[-1][0]:7.1f} MiB",
                        *opened(process),
                        flush=True,
                    )
        run.send_signal(signal.SIGTERM)
        run.wait()
    if not seen:
        sys.exit(f"the run has not drawn its code within {minutes:g} minutes: give it more")
    quarter = max(len(seen) // 4, 1)
    first, last = seen[:quarter], seen[-quarter:]
    before, after = (median(mib for mib, _ in part) for part in (first, last))
    row = {
        "minutes": minutes,
        "samples": len(seen),
        "first_quarter_mib": round(before, 1),
        "last_quarter_mib": round(after, 1),
        "growth_percent": round(100 * (after / before - 1), 2),
        "largest_mib": round(max(mib for mib, _ in seen), 1),
        "first_quarter_files": median(files for _, files in first),
        "last_quarter_files": median(files for _, files in last),
        "exit_code": run.returncode,
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()))
    print(write_csv("soak", [row]))


if __name__ == "__main__":
    main()
