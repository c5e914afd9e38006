"""Kill short runs with SIGKILL at random moments, resume them, and compare to the last bit.

python -m benchmarks.kills                 # 20 kills
python -m benchmarks.kills --kills 3 --seed 1 --signals KILL TERM INT

Each run is a process of its own, forked from one that has imported torch. A run is killed once, at
a random moment: a drawn number of checkpoints into the training, and a drawn part of the time
between two of them, so that a busy machine does not move all kills to the start. Then
`--ckpt_path last` brings it to its end (after SIGTERM and SIGINT the command that the run has
printed). Weights, optimizer, learning rate, random state, annealed values, every logged metric and
the test's results are compared with those of the uninterrupted run.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dvae.cli import main as train

__all__ = ["Outcome", "difference", "kill_and_resume", "main", "uninterrupted"]

CONFIG = Path(__file__).parents[1] / "configs" / "mnist_categorical.yaml"
EVERY = 4
# Three epochs of 15 steps: after steps 4, 8, 12 and 15 of the first, and so on.
WRITTEN = 11
SETTINGS = (
    "--trainer.limit_train_batches=15 --trainer.max_epochs=3 --trainer.limit_val_batches=4 "
    "--trainer.limit_test_batches=1 --trainer.log_every_n_steps=1 --trainer.accelerator=cpu "
    "--trainer.enable_progress_bar=false --model.evaluation.iwae_samples=2 "
    "--model.network MLP --model.network.hidden=[32] "
    f"--checkpoints.every_n_steps={EVERY}"
).split()


@dataclass(frozen=True)
class Moment:
    """When a run is killed.

    Attributes:
        checkpoints: How many it has written by then.
        after: Seconds after the last of them.
    """

    checkpoints: int
    after: float


@dataclass(frozen=True)
class Outcome:
    """What became of one kill.

    Attributes:
        moment: When it was killed.
        step: The step that the run went on from; 0 where it began again.
        where: What it was doing, as far as its files tell.
        problem: What differs from the uninterrupted run, empty where nothing does.
    """

    moment: Moment
    step: int
    where: str
    problem: str


def start(root: Path, *more: str) -> int:
    """Fork a run.

    Args:
        root: Folder of the runs.
        more: Further arguments.

    Returns:
        Its process id.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ["WANDB_MODE"] = "disabled"
        null = os.open(root / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(null, 1)
        os.dup2(null, 2)
        settings = [*SETTINGS, f"--trainer.default_root_dir={root}"]
        code = train(["fit", "--config", str(CONFIG), *settings, *more])
    finally:
        os._exit(code)


def uninterrupted(root: Path) -> float:
    """Do the run that the others are compared with.

    Args:
        root: Its folder.

    Returns:
        Seconds from the set-up of the training to its last checkpoint.
    """
    root.mkdir(parents=True)
    _, status = os.waitpid(start(root), 0)
    if status:
        raise RuntimeError(f"the run failed: {(root / 'output.txt').read_text()}")
    run = _run(root)
    last = (run / "checkpoints" / "last.ckpt").stat().st_mtime
    return last - (run / "config.yaml").stat().st_mtime


def kill_and_resume(root: Path, whole: Path, moment: Moment, number: int) -> Outcome:
    """Kill a run, resume it to its end, compare.

    Args:
        root: Folder of this run.
        whole: That of the uninterrupted one.
        moment: When.
        number: Of the signal.
    """
    root.mkdir(parents=True)
    process = start(root)
    run = root / CONFIG.stem / "version_0"
    while not (run / "config.yaml").is_file():
        time.sleep(0.002)
    last, written, seen = run / "checkpoints" / "last.ckpt", 0, 0
    # A signal that asks is answered from the first step on.
    while written < max(moment.checkpoints, number != signal.SIGKILL):
        stamp = last.stat().st_mtime_ns if last.is_file() else 0
        written, seen = written + (stamp != seen), stamp
        time.sleep(0.001)
    time.sleep(moment.after)
    os.kill(process, number)
    _, status = os.waitpid(process, 0)
    writing = list(run.glob("checkpoints/*.part"))
    where = "writing a checkpoint" if writing else "training or validating"
    arguments = ["--ckpt_path=last"]
    if number != signal.SIGKILL and os.waitstatus_to_exitcode(status):
        lines = (root / "output.txt").read_text().splitlines()
        if os.waitstatus_to_exitcode(status) != 128 + number or "resume with" not in lines[-2]:
            return Outcome(moment, 0, where, f"did not stop cleanly: {lines[-1]}")
        arguments = lines[-1].split()[3:]
        where = lines[-2].split(";")[0]
    _, status = os.waitpid(start(root, *arguments), 0)
    output = (root / "output.txt").read_text()
    paths = [line.removeprefix("ckpt_path last: ") for line in output.splitlines()]
    paths = [path for path in [*paths, *arguments] if path.endswith(".ckpt")]
    path = next((path for path in paths if Path(path).is_file()), None)
    step = torch.load(path, weights_only=True)["global_step"] if path else 0
    if status:
        return Outcome(moment, step, where, f"could not be resumed: {output.splitlines()[-1]}")
    return Outcome(moment, step, where, difference(whole, root))


def difference(whole: Path, resumed: Path) -> str:
    """Compare two runs.

    Args:
        whole: Folder of the uninterrupted one.
        resumed: That of the other.

    Returns:
        The first difference, empty where there is none.
    """
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (_state(_run(root) / "checkpoints" / name) for root in (whole, resumed))
        problem = _unequal(ours, theirs, name)
        if problem:
            return problem
    rows, other = (dict(_rows(root)) for root in (whole, resumed))
    for key, row in other.items():
        if rows.get(key) != row:
            return f"metrics.csv, step {key[0]}: {rows.get(key)} and {row}"
    return ""


def _run(root: Path) -> Path:
    # A run that was killed after its training had ended leaves nothing to train: the folder that
    # resumes it has no checkpoint of its own.
    folders = (path.parents[1] for path in (root / CONFIG.stem).glob("*/checkpoints/last.ckpt"))
    return max(folders, key=lambda path: int(path.name.removeprefix("version_")))


def _rows(root: Path) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    path = _run(root) / "metrics.csv"
    if not path.is_file():  # killed in the final test, and resumed to nothing but that
        return []
    with path.open() as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    # Several rows may have the same step: of training, validation and the test.
    return [((row["step"], *sorted(row)), row) for row in rows]


def _state(path: Path) -> dict[str, Any]:
    state = torch.load(path, weights_only=True)
    callbacks = state["callbacks"]
    for name in list(callbacks):
        # Paths, times and ids are each run's own.
        if name.startswith(("Checkpoints", "Timer", "RunId", "ModelCheckpoint")):
            del callbacks[name]
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "callbacks")
    return {key: state[key] for key in keys}


def _unequal(a: Any, b: Any, path: str) -> str:
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return "" if same else path
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{path}: {sorted(map(str, a.keys() ^ b.keys()))}"
        return next((p for key in a if (p := _unequal(a[key], b[key], f"{path}.{key}"))), "")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((p for i, (x, y) in pairs if (p := _unequal(x, y, f"{path}[{i}]"))), "")
    return "" if a == b or (a != a and b != b) else f"{path}: {a} and {b}"


def main(args: Sequence[str] | None = None) -> int:
    """Run the kills and print what became of them.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0 where every run ended as the uninterrupted one.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", nargs="+", default=["KILL"], choices=["KILL", "TERM", "INT"])
    options = parser.parse_args(args)
    draw = random.Random(options.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        seconds = uninterrupted(root / "whole")
        print(
            f"uninterrupted: {seconds:.1f} s of training; a kill within that, seed {options.seed}"
        )
        good = 0
        for number in range(options.kills):
            moment = Moment(draw.randrange(WRITTEN), draw.uniform(0, seconds / WRITTEN))
            kind = signal.Signals[f"SIG{options.signals[number % len(options.signals)]}"]
            outcome = kill_and_resume(root / f"kill_{number}", root / "whole", moment, kind)
            good += not outcome.problem
            when = f"{moment.after:.3f} s after checkpoint {moment.checkpoints:2d}"
            result = outcome.problem or "identical"
            print(
                f"{number + 1:3d}. killed {when} ({outcome.where}), went on from step "
                f"{outcome.step}: {result}",
                flush=True,
            )
    verdict = "final weights identical" if good == options.kills else "NOT all identical"
    print(f"{good} of {options.kills} resumed, {verdict}")
    return int(good != options.kills)


if __name__ == "__main__":
    sys.exit(main())
