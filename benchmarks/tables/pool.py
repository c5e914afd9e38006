"""Runs side by side, a process with one thread for each or for a group, under one progress bar."""

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

from benchmarks.tables.runs import Group
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
    groups: Sequence[Group],
    root: Path,
    jobs: int,
    arguments: Callable[[Group], list[str]],
    finished: Callable[[], object],
) -> list[str]:
    """Run what is given, in this order, several at once.

    Args:
        groups: None of them finished.
        root: Folder of all runs of tables.
        jobs: At most so many at once.
        arguments: Arguments of the command that trains a group.
        finished: Called after each that has its results.

    Returns:
        What failed, with where to read why.
    """
    todo, failed = list(groups), []
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    busy: dict[TaskID, tuple[Group, subprocess.Popen[bytes]]] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        # Epochs and tests go at their own speeds: five minutes even that out.
        speed_estimate_period=300,
    )
    done = {index: _done(group, root) for index, group in enumerate(groups)}
    with progress:
        every = progress.add_task(
            f"{sum(len(group.runs) for group in groups)} run(s)",
            total=sum(group.work for group in groups),
            completed=sum(done.values()),
        )
        bars: dict[TaskID, int] = {}
        try:
            while todo or busy:
                while todo and len(busy) < jobs:
                    group = todo.pop(0)
                    bar = progress.add_task(
                        _short(group), total=group.work, completed=_done(group, root)
                    )
                    bars[bar] = len(groups) - len(todo) - 1
                    alone = len(group.runs) == 1
                    started = _start(group, root, arguments(group), 1 if alone else threads)
                    busy[bar] = (group, started)
                time.sleep(_POLL_SECONDS)
                for bar, (group, process) in list(busy.items()):
                    done[bars[bar]] = _done(group, root)
                    if process.poll() is not None:
                        del busy[bar]
                        progress.remove_task(bar)
                        done[bars[bar]] = group.work
                        there = [result_of(run, root) is not None for run in group.runs]
                        if process.returncode == 0 and all(there):
                            progress.console.print(f"done: {group.name}")
                            finished()
                        else:
                            failed.append(f"{group.name} ({_last_line(group, root)})")
                            progress.console.print(f"FAILED: {failed[-1]}")
                    else:
                        progress.update(bar, completed=done[bars[bar]])
                progress.update(every, completed=sum(done.values()))
        finally:
            _stop([process for _, process in busy.values()])
    return failed


def _start(
    group: Group, root: Path, arguments: list[str], threads: int
) -> "subprocess.Popen[bytes]":
    folder = group.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tables", *arguments],
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "PYTHONPATH": os.pathsep.join(paths),
            },
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


def _short(group: Group) -> str:
    first, *others = group.runs
    return f"{first.name} and {len(others)} more" if others else first.name


def _done(group: Group, root: Path) -> float:
    try:
        return float(json.loads((group.folder(root) / "progress.json").read_text())["done"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _last_line(group: Group, root: Path) -> str:
    log = group.folder(root) / "log"
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'}; see {log}"
