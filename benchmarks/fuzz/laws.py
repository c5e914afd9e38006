"""What is asked of every run: its end, steps, validations, schedules and files."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.fuzz.joint import Joint
from benchmarks.fuzz.session import Session
from benchmarks.fuzz.settings import BATCHES, learning_rate, schedules_of, steps_after
from benchmarks.fuzz.tally import Failure
from benchmarks.same import rows

__all__ = [
    "Broken",
    "check_best",
    "check_end",
    "check_files",
    "check_log",
    "check_schedules",
    "check_steps",
    "check_validations",
    "validated_after",
]


class Broken(Failure):
    """A law that does not hold.

    Args:
        law: Its name.
        text: What was found.
    """

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


def check_end(run: Session, code: int = 0) -> None:
    """Ask for an end without a traceback.

    Args:
        run: What became of the command.
        code: The exit code that is right.

    Raises:
        Broken: An exception, an error in more than a line, or another exit code.
    """
    if run.error is not None:
        first = str(run.error).strip().split("\n", 1)[0]
        raise Broken("traceback", f"{type(run.error).__name__}: {first[:300]}")
    if "Traceback (most recent call last)" in run.output:
        raise Broken("traceback", run.output[-300:])
    if run.code != code:
        said = run.lines[-1] if run.lines else run.output[-200:]
        raise Broken("exit code", f"{run.code}, should be {code}: {said[:300]}")


def check_steps(run: Session, first: int, last: int) -> None:
    """Ask that a run took certain steps, each once.

    Args:
        run: The run.
        first: The first step, counted from 0.
        last: The number of steps in all when it is over.

    Raises:
        Broken: It took others.
    """
    found = sorted(run.diary.steps)
    if found != list(range(first, last)):
        raise Broken("steps", f"took {_span(found)}, should be {first} to {last - 1}")
    assert run.trainer is not None
    if run.trainer.global_step != last:
        raise Broken("steps", f"the trainer counts {run.trainer.global_step}, should be {last}")


def _span(steps: Sequence[int]) -> str:
    return f"{steps[0]} to {steps[-1]} ({len(steps)})" if steps else "none"


def validated_after(joint: Joint, batches: int) -> list[int]:
    """List the training batches after which a run validates, by what Lightning documents.

    Args:
        joint: The joint.
        batches: Training batches of the run.
    """
    due = {
        "epoch": lambda batch: batch % BATCHES == 0,
        "each batch": lambda batch: True,
        "2 batches": lambda batch: (batch - 1) % BATCHES == 1,
        "2 batches across": lambda batch: batch % 2 == 0,
        "2 epochs": lambda batch: batch % (2 * BATCHES) == 0,
        "never": lambda batch: False,
    }[joint["validate"]]
    return [batch for batch in range(1, batches + 1) if due(batch)]


def check_validations(joint: Joint, run: Session, after: int, batches: int, extra: bool) -> None:
    """Ask that a run validated when it should.

    Args:
        joint: The joint.
        run: The run.
        after: Training batches before it began.
        batches: Training batches when it is over.
        extra: Whether one more at the end is right: a trainer that is asked to stop validates.

    Raises:
        Broken: It validated at other steps, or the bound was not finite.
    """
    expected = [b for b in validated_after(joint, batches) if b > after]
    steps = [steps_after(joint, batch) for batch in expected]
    found = [step for step, _ in run.diary.validations]
    more = [*steps, steps_after(joint, batches)]
    if found != steps and not (extra and joint["validate"] != "never" and found == more):
        raise Broken("validations", f"at steps {found}, should be at {steps}")
    bad = [step for step, elbo in run.diary.validations if not math.isfinite(elbo)]
    if bad:
        raise Broken("finite", f"val/elbo at step {bad[0]}")


def check_schedules(joint: Joint, run: Session, run_steps: int) -> None:
    """Ask that each step was taken at what the schedules give for it and one length of the run.

    Args:
        joint: The joint.
        run: The run.
        run_steps: Its length, of all steps.

    Raises:
        Broken: A learning rate, temperature or weight was another.
    """
    for name, schedule in schedules_of(joint).items():
        for step, moment in run.diary.steps.items():
            factor = learning_rate(joint) if name == "lr" else 1.0
            expected = factor * schedule(step, run_steps)
            found = moment.lr if name == "lr" else moment.scalars[name]
            if not math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-7):
                raise Broken(
                    "schedules", f"{name} at step {step} is {found:g}, should be {expected:g}"
                )


def check_log(joint: Joint, run: Session, folder: Path) -> None:
    """Ask that the log has each step that is to be logged, with what it was taken at.

    Args:
        joint: The joint.
        run: The run.
        folder: Folder of the run.

    Raises:
        Broken: A row is missing, or its values are of another step.
    """
    if joint["logger"] != "default":
        return
    logged: dict[int, dict[str, str]] = {}
    for _, row in rows(folder):
        if "train/loss" in row:
            logged.setdefault(int(row["step"]), {}).update(row)
    every = int(joint["log_every"])
    # Lightning counts steps from 0 and logs the last of so many.
    due = [step for step in run.diary.steps if (step + 1) % every == 0]
    missing = [step for step in due if step not in logged]
    if missing:
        raise Broken("log", f"step {missing[0]} is not logged; logged are {sorted(logged)}")
    for step in due:
        moment, row = run.diary.steps[step], logged[step]
        values = {"anneal/lr": moment.lr}
        values |= {f"anneal/{n}": v for n, v in moment.scalars.items() if f"anneal/{n}" in row}
        for name, value in values.items():
            found = row.get(name, "nothing")
            if name not in row or not math.isclose(float(found), value, rel_tol=1e-5):
                raise Broken("log", f"{name} of step {step} is {found}, should be {value:g}")
        if not moment.bounds:  # of an objective that is no bound
            continue
        # Of the last of the batches whose gradients are added up, or the mean of all.
        bounds = [*moment.bounds, sum(moment.bounds) / len(moment.bounds)]
        bound = float(row.get("train/elbo", "nan"))
        if not any(math.isclose(bound, known, rel_tol=1e-4) for known in bounds):
            raise Broken("log", f"train/elbo of step {step} is {bound}, should be of {bounds}")


def check_files(joint: Joint, run: Session, folder: Path, steps: int) -> None:
    """Ask that a run left what it should, and nothing half-written.

    Args:
        joint: The joint.
        run: The run.
        folder: Folder of the run.
        steps: Steps in all.

    Raises:
        Broken: A file is missing, is of another step, or should not be there.
    """
    wanted = ["config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"]
    if run.diary.validations or steps >= int(joint["log_every"]):
        wanted.append("media/curves.png")
    if joint["logger"] == "default":
        wanted.append("metrics.csv")
    if joint["pictures"] != "0" and joint["validate"] != "never":
        wanted += ["media/reconstructions", "media/latent_usage"]
    absent = [name for name in wanted if not (folder / name).exists()]
    if absent:
        raise Broken("files", f"{', '.join(absent)} missing in {folder.name}")
    left = [path.name for path in folder.rglob("*") if re.search(r"\.part$|nonfinite", path.name)]
    if left:
        raise Broken("files", f"{left[0]} was left")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    if last["global_step"] != steps:
        raise Broken("files", f"last.ckpt is of step {last['global_step']}, should be {steps}")
    for name, tensor in last["state_dict"].items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Broken("finite", f"{name} of last.ckpt")


def check_best(run: Session, folder: Path, validations: Sequence[tuple[int, float]]) -> None:
    """Ask that the best checkpoint is the best of all that were validated, and is what was tested.

    Args:
        run: The last run.
        folder: Its folder.
        validations: Steps and bounds of it and of the runs that it goes on with.

    Raises:
        Broken: It is another.
    """
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    if validations:
        top = max(elbo for _, elbo in validations)
        steps = [step for step, elbo in validations if elbo == top]
        if best["global_step"] not in steps:
            raise Broken("best", f"best.ckpt is of step {best['global_step']}, should be {steps}")
    assert run.model is not None
    if "test/elbo" not in run.metrics:
        return  # not tested: it was asked to stop
    for name, tensor in run.model.state_dict().items():
        if not torch.equal(tensor, best["state_dict"][name]):
            raise Broken("best", f"what was tested is not best.ckpt: {name}")
