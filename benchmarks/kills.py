"""Kill short runs with SIGKILL at random moments, resume them, and compare to the last bit.

python -m benchmarks.kills                 # 20 kills of each model
python -m benchmarks.kills --kills 3 --models codebook --signals KILL TERM INT --out FOLDER

The models are a categorical one, and one whose code book follows moving averages, starts by k-means
and is revived all the time. Each run is a process of its own, forked from one that has imported
torch. A run is killed once, at a random moment: a drawn number of checkpoints into the training,
and a drawn part of the time between two of them, so that a busy machine does not move all kills to
the start. Then `--ckpt_path last` brings it to its end (after SIGTERM and SIGINT the command that
the run has printed). Weights, optimizer, learning rate, random state, annealed values, every logged
metric and the test's results are compared with those of the uninterrupted run.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, write_csv
from benchmarks.same import newest_run, rows, state, unequal
from dvae.cli import main as train

__all__ = ["Outcome", "difference", "kill_and_resume", "main", "uninterrupted"]

CONFIGS = Path(__file__).parents[1] / "configs"
EVERY = 4
_WRITING = "writing a checkpoint"
# Three epochs of 15 steps: after steps 4, 8, 12 and 15 of the first, and so on.
WRITTEN = 11
SETTINGS = (
    "--trainer.limit_train_batches=15 --trainer.max_epochs=3 --trainer.limit_val_batches=4 "
    "--trainer.limit_test_batches=1 --trainer.log_every_n_steps=1 --trainer.accelerator=cpu "
    "--trainer.enable_progress_bar=false --model.evaluation.iwae_samples=2 "
    f"--checkpoints.every_n_steps={EVERY}"
).split()
# The arguments of each model, small enough for a run of seconds.
MODELS = {
    "categorical": (
        f"--config={CONFIGS}/mnist_categorical.yaml --model.network MLP --model.network.hidden=[32]"
    ),
    # More codes than are in use.
    "codebook": (
        f"--config={CONFIGS}/mnist_codebook.yaml --data.batch_size=32 "
        "--model.network.width=8 --model.bottleneck VQ --model.bottleneck.num_codes=128 "
        "--model.bottleneck.upkeep.kmeans=3 --model.bottleneck.upkeep.revive_after=5"
    ),
}


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


def start(root: Path, model: str, *more: str) -> int:
    """Fork a run.

    Args:
        root: Folder of the runs.
        model: One of `MODELS`.
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
        settings = [*MODELS[model].split(), *SETTINGS, f"--trainer.default_root_dir={root}"]
        code = train(["fit", *settings, *more])
    finally:
        os._exit(code)


def uninterrupted(root: Path, model: str) -> float:
    """Do the run that the others are compared with.

    Args:
        root: Its folder.
        model: One of `MODELS`.

    Returns:
        Seconds from the set-up of the training to its last checkpoint.
    """
    root.mkdir(parents=True)
    _, status = os.waitpid(start(root, model), 0)
    if status:
        raise RuntimeError(f"the run failed: {(root / 'output.txt').read_text()}")
    run = newest_run(root)
    last = (run / "checkpoints" / "last.ckpt").stat().st_mtime
    return last - (run / "config.yaml").stat().st_mtime


def kill_and_resume(root: Path, whole: Path, model: str, moment: Moment, number: int) -> Outcome:
    """Kill a run, resume it to its end, compare.

    Args:
        root: Folder of this run.
        whole: That of the uninterrupted one.
        model: One of `MODELS`.
        moment: When.
        number: Number of the signal.
    """
    root.mkdir(parents=True)
    process = start(root, model)
    run = root / f"mnist_{model}" / "version_0"
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
    where = _WRITING if writing else "training or validating"
    arguments = ["--ckpt_path=last"]
    if number != signal.SIGKILL and os.waitstatus_to_exitcode(status):
        lines = (root / "output.txt").read_text().splitlines()
        if os.waitstatus_to_exitcode(status) != 128 + number or "resume with" not in lines[-2]:
            return Outcome(moment, 0, where, f"did not stop cleanly: {lines[-1]}")
        arguments = lines[-1].split()[3:]
        where = lines[-2].split(";")[0]
    _, status = os.waitpid(start(root, model, *arguments), 0)
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
        ours, theirs = (state(newest_run(root) / "checkpoints" / name) for root in (whole, resumed))
        problem = unequal(ours, theirs, name)
        if problem:
            return problem
    logged, other = (dict(rows(newest_run(root))) for root in (whole, resumed))
    for key, row in other.items():
        if logged.get(key) != row:
            return f"metrics.csv, step {key[0]}: {logged.get(key)} and {row}"
    return ""


def main(args: Sequence[str] | None = None) -> int:
    """Run the kills and print what became of them.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0 where every run ended as the uninterrupted one.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20, help="of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--signals", nargs="+", default=["KILL"], choices=["KILL", "TERM", "INT"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of kills.csv")
    options = parser.parse_args(args)
    draw = random.Random(options.seed)
    torch.set_num_threads(1)
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            outcomes = _kills(Path(folder) / model, model, options.kills, options.signals, draw)
            identical = sum(not outcome.problem for outcome in outcomes)
            table.append(
                {
                    "model": model,
                    "signals": " ".join(f"SIG{name}" for name in options.signals),
                    "seed": options.seed,
                    "kills": len(outcomes),
                    "identical": identical,
                    "while_writing": sum(o.where == _WRITING for o in outcomes),
                    "from_the_start": sum(not o.step for o in outcomes),
                }
            )
            verdict = (
                "final weights identical" if identical == len(outcomes) else "NOT all identical"
            )
            print(f"{model}: {identical} of {len(outcomes)} resumed, {verdict}", flush=True)
    print(write_csv("kills", table, options.out))
    return int(any(row["identical"] != row["kills"] for row in table))


def _kills(
    root: Path, model: str, count: int, signals: Sequence[str], draw: random.Random
) -> list[Outcome]:
    seconds = uninterrupted(root / "whole", model)
    print(f"{model}, uninterrupted: {seconds:.1f} s of training; a kill within that")
    outcomes = []
    for number in range(count):
        moment = Moment(draw.randrange(WRITTEN), draw.uniform(0, seconds / WRITTEN))
        kind = signal.Signals[f"SIG{signals[number % len(signals)]}"]
        outcome = kill_and_resume(root / f"kill_{number}", root / "whole", model, moment, kind)
        outcomes.append(outcome)
        when = f"{moment.after:.3f} s after checkpoint {moment.checkpoints:2d}"
        print(
            f"{number + 1:3d}. killed {when} ({outcome.where}), went on from step "
            f"{outcome.step}: {outcome.problem or 'identical'}",
            flush=True,
        )
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
