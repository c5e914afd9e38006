"""However a run ends, resumed it becomes the run that had not ended: the law over random cases."""

import csv
import os
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from dvae.callbacks import (
    Anneal,
    Checkpoints,
    Curves,
    RandomState,
    Reconstructions,
    StopOnSignal,
    Stopped,
    WeightAverage,
)
from dvae.estimators import GumbelSoftmax
from dvae.schedules import Cosine, Linear
from tests.toy import toy_data, toy_model, toy_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Be aware that when")

FOLLOWS_THE_RUN, GIVEN = None, 14
"""Steps of the schedules: those of the run, or a number."""


@dataclass(frozen=True)
class Stop:
    """How a run ends before its end.

    Attributes:
        way: ``max_steps``, ``time`` (a Timer asks the trainer to stop), ``patience`` (the same
            after a validation), ``signal`` (SIGTERM) or ``kill``.
        batch: Training batches by then, or a little later.
        hook: In which a signal or a kill comes.
    """

    way: str
    batch: int
    hook: str = "on_train_batch_start"


@dataclass(frozen=True)
class Case:
    """A run without an interruption, and its interruptions.

    Attributes:
        epochs: Of `batches` batches each.
        batches: In an epoch.
        max_steps: Optimizer steps where they end the run, else -1.
        accumulate: Batches in a step.
        interval: Of validations, as `val_check_interval`.
        every: Epochs between validations; None counts the batches across epochs.
        saves: Steps between checkpoints within an epoch, or None.
        schedule: Steps of the schedules of tau and learning rate.
        pictures: Whether some are drawn at the end of each epoch.
        stops: What comes in between, each after the one before.
        average: Whether the weights are averaged.
    """

    epochs: int
    batches: int
    max_steps: int
    accumulate: int
    interval: float | int
    every: int | None
    saves: int | None
    schedule: int | None
    pictures: bool
    stops: tuple[Stop, ...]
    average: bool = False


class Killed(BaseException):
    """The process is no more."""


class Interrupt(pl.Callback):
    """Ends the run in its way; the first of the callbacks, so that others may still come."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def _at(self, trainer: pl.Trainer, hook: str) -> None:
        if trainer.sanity_checking or trainer.fit_loop.total_batch_idx + 1 < self.stop.batch:
            return
        if self.stop.way == "kill" and hook == self.stop.hook:
            raise Killed
        if self.stop.way == "signal" and hook == self.stop.hook:
            os.kill(os.getpid(), signal.SIGTERM)
            self.stop = replace(self.stop, way="asked")

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._at(trainer, "on_train_batch_start")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._at(trainer, "on_train_batch_end")
        if self.stop.way == "time" and trainer.fit_loop.total_batch_idx + 1 >= self.stop.batch:
            trainer.should_stop = True

    def on_validation_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self._at(trainer, "on_validation_start")

    def on_validation_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._at(trainer, "on_validation_end")
        if self.stop.way == "patience" and trainer.fit_loop.total_batch_idx + 1 >= self.stop.batch:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self._at(trainer, "on_train_epoch_end")


class Watch(pl.Callback):
    """Notes what every batch was trained with, and every validation."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.steps: dict[int, tuple[Any, ...]] = {}
        self.validations: dict[int, float] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: pl.Trainer, model: Any, out: Any, batch: Any, i: int):
        batch = trainer.fit_loop.total_batch_idx
        tau = model.bottleneck.estimator.tau.item()
        next_rate = trainer.optimizers[0].param_groups[0]["lr"]
        counts = (trainer.current_epoch, i, trainer.global_step)
        self.steps[batch] = (*counts, tau, self.rate, next_rate)

    def on_validation_end(self, trainer: pl.Trainer, model: Any) -> None:
        if not trainer.sanity_checking:
            batch = trainer.fit_loop.total_batch_idx
            assert batch not in self.validations
            self.validations[batch] = trainer.callback_metrics["val/elbo"].item()


@dataclass(frozen=True)
class Run:
    """What a run has done and left.

    Attributes:
        steps: By batch: epoch, batch in it, steps so far, tau, learning rate, that of the next.
        validations: By batch: the ELBO.
        rows: Of `metrics.csv`.
        folder: Of its checkpoints.
    """

    steps: dict[int, tuple[Any, ...]]
    validations: dict[int, float]
    rows: list[dict[str, str]]
    folder: Path

    def last(self) -> dict[str, Any]:
        return torch.load(self.folder / "last.ckpt", weights_only=True)


def train(
    folder: Path,
    case: Case,
    stop: Stop | None = None,
    ckpt_path: Path | None = None,
    *more: pl.Callback,
) -> Run:
    pl.seed_everything(3, verbose=False)
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    model = toy_model(GumbelSoftmax(1.0), lr_schedule=Cosine(1.0, 0.1, case.schedule))
    watch = Watch()
    callbacks = [
        *([Interrupt(stop)] if stop else []),
        *([Reconstructions(2)] if case.pictures else []),
        *([WeightAverage(0.9)] if case.average else []),
        Anneal("tau", Linear(2.0, 0.5, case.schedule)),
        RandomState(),
        Curves(),
        watch,
        *more,
        Checkpoints(case.saves),
        StopOnSignal(),
    ]
    steps = case.max_steps
    if stop and stop.way == "max_steps":
        steps = min(-(-stop.batch // case.accumulate), steps if steps != -1 else stop.batch)
    trainer = toy_trainer(
        folder,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="", version=""),
        max_epochs=case.epochs,
        max_steps=steps,
        accumulate_grad_batches=case.accumulate,
        limit_train_batches=case.batches,
        limit_val_batches=1,
        val_check_interval=case.interval,
        check_val_every_n_epoch=case.every,
        log_every_n_steps=2,
        enable_checkpointing=True,
    )
    try:
        trainer.fit(model, datamodule=toy_data(binarization="dynamic"), ckpt_path=ckpt_path)
    except (Killed, Stopped):
        assert stop is not None
    metrics = folder / "metrics.csv"
    rows = list(csv.DictReader(metrics.open())) if metrics.is_file() else []
    rows = [{key: value for key, value in row.items() if value} for row in rows]
    return Run(watch.steps, watch.validations, rows, folder / "checkpoints")


def in_parts(folder: Path, case: Case) -> list[tuple[int, Run]]:
    """Return the parts of an interrupted run, each with the steps that were done before it."""
    parts, last, done = [], None, 0
    for number, stop in enumerate([*case.stops, None]):
        part = train(folder / str(number), case, stop, last)
        parts.append((done, part))
        if (part.folder / "last.ckpt").is_file():
            last, done = part.folder / "last.ckpt", part.last()["global_step"]
    return parts


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    else:
        assert ours == theirs, where


def check(folder: Path, case: Case) -> None:
    """Assert the law of one case."""
    whole, counted = train(folder / "whole", case), in_parts(folder, case)
    parts = [part for _, part in counted]
    extra = set()
    for part, stop in zip(parts, [*case.stops, None], strict=True):
        assert part.steps.items() <= whole.steps.items()
        if stop and stop.way in ("time", "patience") and part.steps:
            extra.add(max(part.steps))  # a trainer that is asked to stop validates once more
    validations: dict[int, float] = {}
    for part in parts:
        validations |= part.validations
    assert whole.validations.items() <= validations.items()
    assert validations.keys() - whole.validations.keys() <= extra
    # Where the last interruption came after the last step there is nothing left to train.
    done, resumed = [(done, part) for done, part in counted if part.steps][-1]
    for row in resumed.rows:
        # Where it is asked to stop, the trainer logs what it would not have.
        assert row in whole.rows or (extra and row["step"] == resumed.rows[-1]["step"])
    for row in whole.rows:
        assert int(row["step"]) < done or row in resumed.rows
    left, expected = resumed.last(), whole.last()
    for state in (left, expected):
        # Paths are each run's own; Curves has the extra validations too.
        for name in [n for n in state["callbacks"] if n.startswith(("Checkpoints", "Curves"))]:
            del state["callbacks"][name]
        # Counts the batches of the extra validations too.
        state["loops"]["fit_loop"].pop("epoch_loop.val_loop.batch_progress")
    assert_same(left, expected, "last.ckpt")
    if not extra and (resumed.folder / "best.ckpt").is_file():
        best = [torch.load(r.folder / "best.ckpt", weights_only=True) for r in (resumed, whole)]
        assert_same(best[0]["state_dict"], best[1]["state_dict"], "best.ckpt")


HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_train_epoch_end",
)


def draw(seed: int) -> Case:
    chance = random.Random(seed)
    batches, epochs = chance.randint(4, 7), chance.randint(2, 3)
    accumulate = chance.choice([1, 1, 2, 3])
    steps = epochs * -(-batches // accumulate)
    max_steps = chance.choice([-1, -1, steps, chance.randint(steps // 2, steps)])
    if max_steps != -1:
        epochs = -(-max_steps // -(-batches // accumulate))
    every = chance.choice([1, 1, 1, 2, None])
    # Lightning counts across epochs in whole batches only.
    interval = chance.choice([2, 3, 5] if every is None else [1.0, 1.0, 0.5, 2, 3])
    stops = []
    for batch in sorted(chance.sample(range(1, epochs * batches), chance.choice([1, 1, 2]))):
        way = chance.choice(["max_steps", "time", "patience", "signal", "signal", "kill", "kill"])
        stops.append(Stop(way, batch, chance.choice(HOOKS)))
    changes = any(stop.way == "max_steps" for stop in stops)
    return Case(
        epochs=epochs,
        batches=batches,
        max_steps=max_steps,
        accumulate=accumulate,
        interval=interval,
        every=every,
        saves=chance.choice([None, 1, 2, 3]),
        schedule=GIVEN if changes else chance.choice([FOLLOWS_THE_RUN, GIVEN]),
        pictures=chance.random() < 0.2,
        stops=tuple(stops),
    )


PLAIN = Case(
    epochs=2,
    batches=4,
    max_steps=-1,
    accumulate=1,
    interval=1.0,
    every=1,
    saves=None,
    schedule=FOLLOWS_THE_RUN,
    pictures=False,
    stops=(),
)

CASES = {
    "a step is saved and killed before its validation, the last of the run": replace(
        PLAIN, interval=2, saves=1, max_steps=6, stops=(Stop("kill", 6, "on_validation_start"),)
    ),
    "a validation that comes first, and another after it": replace(
        PLAIN,
        interval=2,
        saves=1,
        stops=(Stop("signal", 2), Stop("kill", 4, "on_train_epoch_end")),
    ),
    "the best amid the batches of a step": replace(
        PLAIN, batches=6, accumulate=3, interval=2, stops=(Stop("kill", 3),)
    ),
    "asked to stop amid the batches of a step": replace(
        PLAIN, batches=6, accumulate=3, stops=(Stop("time", 4),)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_resumed_it_is_the_run_that_had_not_ended_where(tmp_path, name):
    check(tmp_path, CASES[name])


@pytest.mark.parametrize("seed", range(16))
def test_resumed_it_is_the_run_that_had_not_ended(tmp_path, seed):
    check(tmp_path, draw(seed))


@pytest.mark.parametrize("seed", range(60, 66))
def test_so_it_is_where_the_weights_are_averaged(tmp_path, seed):
    check(tmp_path, replace(draw(seed), average=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16, 60))
def test_resumed_it_is_the_run_that_had_not_ended_at_length(tmp_path, seed):
    check(tmp_path, draw(seed))


@pytest.mark.parametrize(
    ("interval", "every", "max_steps"), [(1.0, 1, -1), (1.0, 1, 7), (2, 1, -1), (3, None, 7)]
)
def test_a_checkpoint_of_any_step_of_a_callback_of_the_users_is_one_to_go_on_from(
    tmp_path, interval, every, max_steps
):
    case = replace(PLAIN, interval=interval, every=every, max_steps=max_steps)
    each = ModelCheckpoint(tmp_path / "each", "{step}", save_top_k=-1, every_n_train_steps=1)
    whole = train(tmp_path / "whole", case, None, None, each)
    paths = [*(tmp_path / "each").glob("*.ckpt"), whole.folder / "best.ckpt"]
    assert len(paths) == len(whole.steps) + 1
    for number, path in enumerate(paths):
        step = torch.load(path, weights_only=True)["global_step"]
        resumed = train(tmp_path / str(number), case, None, path)
        assert resumed.steps == {b: v for b, v in whole.steps.items() if b >= step}
        # Of the user's each is written before the validation of its step.
        left = step if path.name == "best.ckpt" or step == max_steps else step - 1
        assert resumed.validations == {b: v for b, v in whole.validations.items() if b >= left}
        assert all(row in whole.rows for row in resumed.rows)


@pytest.mark.parametrize(("now", "then"), [(8, 16), (16, 8), (7, 12)])
def test_temperature_and_learning_rate_follow_one_length_where_it_was_changed(tmp_path, now, then):
    case = replace(PLAIN, epochs=4, max_steps=now)
    first = train(tmp_path / "first", case, Stop("signal", 5))
    last = first.folder / "last.ckpt"
    resumed = train(tmp_path / "then", replace(case, max_steps=then), None, last)
    temperature, rate = Linear(2.0, 0.5), Cosine(1.0, 0.1)
    assert list(resumed.steps) == list(range(5, then))
    for step, (_, _, _, tau, taken, _) in resumed.steps.items():
        assert tau == pytest.approx(temperature(step, then))
        assert taken == pytest.approx(2e-3 * rate(step, then))
