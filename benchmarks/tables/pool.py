"""Runs side by side, each a process with one thread, under one progress bar."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.tables.runs import Run
from benchmarks.tables.train import ROOT, result_of

__all__ = ["default_jobs", "run_all"]

# A process took 0.7 GiB with MNIST in memory; room for the test's draws.
_BYTES_A_JOB = 1.5 * 2**30
_POLL_SECONDS = 0.5


def default_jobs() -> int:
    """Count the runs that fit side by side: one a core, as far as the free memory goes."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, int(psutil.virtual_memory().available / _BYTES_A_JOB)))


def run_all(
    runs: Sequence[Run],
    root: Path,
    jobs: int,
    arguments: Callable[[Run], list[str]],
    finished: Callable[[Run], None],
) -> list[str]:
    """Run what is given, in this order, several at once.

    Args:
        runs: None of them finished.
        root: Of all runs of tables.
        jobs: At most so many at once.
        arguments: Of the command that trains one run.
        finished: Called after each that has a result.

    Returns:
        What failed, with where to read why.
    """
    todo, failed = list(runs), []
    busy: dict[TaskID, tuple[Run, subprocess.Popen[bytes]]] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        # Epochs and tests go at their own speeds: five minutes even that out.
        speed_estimate_period=300,
    )
    done = {index: _done(run, root) for index, run in enumerate(runs)}
    with progress:
        every = progress.add_task(
            f"{len(runs)} run(s)",
            total=sum(run.work for run in runs),
            completed=sum(done.values()),
        )
        bars: dict[TaskID, int] = {}
        try:
            while todo or busy:
                while todo and len(busy) < jobs:
                    run = todo.pop(0)
                    bar = progress.add_task(run.name, total=run.work, completed=_done(run, root))
                    bars[bar] = len(runs) - len(todo) - 1
                    busy[bar] = (run, _start(run, root, arguments(run)))
                time.sleep(_POLL_SECONDS)
                for bar, (run, process) in list(busy.items()):
                    done[bars[bar]] = _done(run, root)
                    if process.poll() is not None:
                        del busy[bar]
                        progress.remove_task(bar)
                        done[bars[bar]] = run.work
                        if process.returncode == 0 and result_of(run, root) is not None:
                            progress.console.print(f"done: {run.name}")
                            finished(run)
                        else:
                            failed.append(f"{run.name} ({_last_line(run, root)})")
                            progress.console.print(f"FAILED: {failed[-1]}")
                    else:
                        progress.update(bar, completed=done[bars[bar]])
                progress.update(every, completed=sum(done.values()))
        finally:
            _stop([process for _, process in busy.values()])
    return failed


def _start(run: Run, root: Path, arguments: list[str]) -> "subprocess.Popen[bytes]":
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tables", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _stop(processes: "list[subprocess.Popen[bytes]]") -> None:
    # What they have trained since their last checkpoint is lost; nothing else is.
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def _done(run: Run, root: Path) -> float:
    try:
        return float(json.loads((run.folder(root) / "progress.json").read_text())["done"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _last_line(run: Run, root: Path) -> str:
    log = run.folder(root) / "log"
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'}; see {log}"
