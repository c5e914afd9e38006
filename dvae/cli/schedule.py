"""`dvae schedule`: temperature, KL weight and learning rate of a run, drawn before it."""

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytorch_lightning as pl
from matplotlib.figure import Figure

from dvae.callbacks import Anneal
from dvae.cli.checks import check_callbacks, check_schedules, training_batches, training_steps
from dvae.cli.training import DVAECLI
from dvae.commands import Parser
from dvae.data import ImageDataModule
from dvae.models import DiscreteVAE
from dvae.plotting import in_style, new_figure, save_figure
from dvae.scalars import annealable_scalars

__all__ = ["Plan", "ScheduleCLI", "draw_plan", "plan_of", "run_length"]

Plan = Mapping[str, Callable[[int], float] | None]
"""Value at each step by name, as a run logs it under ``anneal/``; None where a tuner sets it."""

_TITLES = {"tau": "τ", "beta": "β", "lr": "learning rate"}
_TUNED = "set by the tuner, by what it measures while training"
# Points of a curve at most, so that a picture of a million steps takes no longer than others.
_POINTS = 20_000


class ScheduleCLI(DVAECLI):
    """The command line of a fit, which draws its schedules in place of training.

    Args:
        args: Arguments of a fit; ``--out`` names the picture.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        parser = Parser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
        parser.add_argument("--out", type=Path)
        own, rest = parser.parse_known_args(args)
        self._out: Path | None = getattr(own, "out", None)
        super().__init__(["fit", *rest])

    def before_fit(self) -> None:
        """Take over what a fit takes over before it starts, such as a temperature to go on from."""
        self._take_over()

    def fit(self, **kwargs: object) -> None:
        """Draw, in place of Lightning's fit, and say where the picture is."""
        steps = run_length(self.model, self.datamodule, self.trainer)
        plan = plan_of(self.model, self.trainer, steps)
        name = self._experiment()
        path = self._out or Path(f"{name}_schedule.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(draw_plan(plan, steps, f"{name}: {steps} steps"), path)
        for key, value in plan.items():
            print(f"{key:5} {_in_words(value, steps)}")
        print(f"wrote {path}")

    def after_fit(self) -> None:
        """Nothing was trained: there is nothing to test."""


def run_length(model: DiscreteVAE, data: ImageDataModule, trainer: pl.Trainer) -> int:
    """Find the length of a run in optimizer steps; data are loaded only where epochs decide it.

    Args:
        model: Model of the run.
        data: Data set of the run.
        trainer: Trainer of the run.

    Raises:
        ValueError: It has no length that is known before, or its schedules cannot be.
        FileNotFoundError: Epochs decide it, and a file of the data is missing.
    """
    by_epochs = trainer.max_epochs not in (None, -1)
    batches = training_batches(data, trainer) if by_epochs else 0
    check_callbacks(model, trainer)
    check_schedules(model, trainer, batches)
    steps = training_steps(trainer, batches)
    if steps is None:
        raise ValueError(
            "a run that ends by the clock has no number of steps to draw over: give it one with "
            "--trainer.max_steps"
        )
    return steps


def plan_of(model: DiscreteVAE, trainer: pl.Trainer, steps: int) -> Plan:
    """Collect what moves in a run.

    Args:
        model: Model as it is when training starts.
        trainer: Trainer with the callbacks that anneal.
        steps: Length of the run in optimizer steps.

    Returns:
        τ, β and whatever else is annealed, then the learning rate of the first of the optimizer's
        groups, which is the one that is logged.
    """
    plan: dict[str, Callable[[int], float] | None] = {}
    for path, scalar in annealable_scalars(model).items():
        name = path.rpartition(".")[2]
        if name in _TITLES:
            plan[name] = _constant(float(scalar.buffer))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Anneal):
            schedule = callback.planned(model)
            moved = schedule and (lambda step, schedule=schedule: schedule(step, steps))
            plan[callback.target] = moved
    rate = model.make_optimizer().param_groups[0]["lr"]
    factor = model.lr_schedule
    plan["lr"] = _constant(rate) if factor is None else lambda step: rate * factor(step, steps)
    return plan


@in_style
def draw_plan(plan: Plan, steps: int, title: str = "") -> Figure:
    """Draw each value over the steps of a run, above each other.

    Args:
        plan: Plan of `plan_of`.
        steps: Length of the run in optimizer steps.
        title: Title above all panels.
    """
    figure = new_figure(7.0, 0.5 + 1.6 * len(plan), title)
    rows = figure.subplots(len(plan), 1, sharex=True, squeeze=False)[:, 0]
    at = sorted({*range(0, steps, math.ceil(steps / _POINTS)), steps - 1})
    for axes, (name, value) in zip(rows, plan.items(), strict=True):
        axes.set_ylabel(_TITLES.get(name, name))
        if value is None:
            axes.text(0.5, 0.5, _TUNED, transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
            continue
        axes.plot(at, [value(step) for step in at], lw=2, marker="." if steps < 30 else None)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.locator_params(axis="y", nbins=5)
        axes.margins(y=0.12)
    rows[-1].set_xlabel("optimizer step")
    rows[-1].set_xlim(0, 1.02 * steps)
    figure.align_ylabels(rows)
    return figure


def _constant(value: float) -> Callable[[int], float]:
    return lambda step: value


def _in_words(value: Callable[[int], float] | None, steps: int) -> str:
    if value is None:
        return _TUNED
    seen = [value(round(part * (steps - 1) / 4)) for part in range(5)]
    return f"{seen[0]:.4g}" if len(set(seen)) == 1 else " → ".join(f"{v:.3g}" for v in seen)
