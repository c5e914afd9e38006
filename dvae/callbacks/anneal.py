"""One callback for the temperature, the KL weight and any other declared scalar."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dvae.callbacks.pictures import are_due, freed, show_picture
from dvae.callbacks.tuner import Tuner
from dvae.callbacks.tuner_plot import draw_errors
from dvae.devices import is_waited_for
from dvae.models.base import DiscreteVAE
from dvae.models.finetune import Carry
from dvae.models.logging import is_logged
from dvae.plotting import to_image
from dvae.scalars import ScalarRef, annealable_scalars
from dvae.schedules import Constant, Mover, Rescaled, Schedule, Tuned

__all__ = ["Anneal"]


class Anneal(Callback):
    """Move a scalar of the model by a schedule of the training step, or by a tuner, and log it.

    The value is a buffer of the model, so it is in every checkpoint; the step is the trainer's,
    and what a tuner has measured is in the checkpoint too, so a resumed run goes on where it stood.
    A tuner's curves are ``tuner/...``, and its picture comes after 1, 2, 4, 8, ... epochs and at
    the end.

    Args:
        target: Name of the scalar (``tau``, ``beta``), or its dotted path from the model where
            the name is not unique.
        schedule: Step to value, or a temperature's `Tuned`.
        carry: What becomes of the value that the model has when training starts, as after
            `init_from`: ``restart`` (the schedule's own start), ``continue`` (from that value to
            the schedule's end, see `Rescaled`) or ``hold`` (that value throughout).

    Raises:
        ValueError: When training is set up: no such scalar, several of that name, a schedule
            that leaves the range of the scalar, one that needs the length of an endless run, or
            a tuner of what it cannot measure.
    """

    def __init__(self, target: str, schedule: Mover, carry: Carry = "restart") -> None:
        self.target = target
        self.schedule = schedule
        self.carry = carry
        self._first: float | None = None  # known when training starts
        self._scalar: ScalarRef | None = None
        self._schedule: Schedule | None = None
        self._run_steps: int | None = None
        self.tuner: Tuner | None = None
        self._logged = -1

    @property
    def state_key(self) -> str:
        """Tell apart the callbacks of several scalars in a checkpoint."""
        return f"Anneal[{self.target}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the scalar and check the schedule against its range."""
        scalar, schedule = find_scalar(pl_module, self.target), self.planned(pl_module)
        for value in schedule.bounds() if schedule else ():
            scalar.range.check(f"anneal.{self.target}", value)
        if stage == "fit" and trainer is not None and not trainer.global_step:
            # An earlier run's; one that goes on takes up its own after this.
            self._first = self.tuner = None
        if isinstance(self.schedule, Tuned) and self.tuner is None:
            self.tuner = Tuner(self.schedule, scalar, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn the length of the run."""
        # Buffers may have been replaced since setup, by a move to another device.
        self._scalar = find_scalar(pl_module, self.target)
        if self._first is None:
            self._first = float(self._scalar.buffer)
        self._schedule = self._carried(self._first)
        steps = trainer.estimated_stepping_batches
        self._run_steps = int(steps) if 0 < steps < float("inf") else None
        if self._schedule is not None:
            self._schedule.check_run(self._run_steps)
        if self.tuner is not None:
            self.tuner.begin(float(self._scalar.buffer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the value of this step, and log it where the step is logged."""
        assert self._scalar is not None
        step, value = trainer.global_step, None
        if self._schedule is not None:
            value = self._schedule(step, self._run_steps)
        if self.tuner is not None:
            assert isinstance(pl_module, DiscreteVAE)  # setup has seen to it
            rate = float(trainer.optimizers[0].param_groups[0]["lr"])
            value = self.tuner.step(pl_module, batch, step, trainer.global_rank, rate, value)
        assert value is not None
        self._scalar.buffer.fill_(value)
        if is_logged(trainer):
            # What Lightning has for a bar it reads in every step, also where there is none.
            shown = self.target == "tau" and not is_waited_for(self._scalar.buffer)
            pl_module.log(f"anneal/{self.target}", value, prog_bar=shown)
            if self.tuner is not None and step != self._logged:
                # Not by Lightning, which takes half a millisecond for each. Of a step with several
                # batches, the first.
                self._logged, found = step, self.tuner.metrics()
                for logger in trainer.loggers if found else ():
                    logger.log_metrics(found, step=step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what a tuner has found."""
        done = trainer.current_epoch + 1
        power = 1 << (done.bit_length() - 1)  # the largest power of 2 that is not above
        if self.tuner is not None and trainer.is_global_zero and are_due(trainer, power):
            with freed():
                drawn = to_image(draw_errors(self.tuner.taus, self.tuner.history, self.target))
                show_picture(trainer, self.tuner.title, drawn)

    def planned(self, pl_module: pl.LightningModule) -> Schedule | None:
        """Return the schedule of a training that starts with a model; None where a tuner moves it.

        Args:
            pl_module: The model.
        """
        return self._carried(float(find_scalar(pl_module, self.target).buffer))

    def state_dict(self) -> dict[str, Any]:
        """Return the value carried over and what a tuner knows, which are nowhere else."""
        state: dict[str, Any] = {} if self.carry == "restart" else {"first": self._first}
        return state if self.tuner is None else state | {"tuner": self.tuner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self._first = state_dict.get("first")
        if self.tuner is not None and "tuner" in state_dict:
            self.tuner.load_state_dict(state_dict["tuner"])

    def _carried(self, first: float) -> Schedule | None:
        """Return the schedule from the value that the model has; None where a tuner has the say."""
        given = self.schedule
        schedule = given.follow if isinstance(given, Tuned) else given
        assert schedule is None or isinstance(schedule, Schedule)
        if self.carry == "hold":
            return Constant(first)
        if schedule is None or self.carry == "restart":
            return schedule
        return Rescaled(schedule, first)


def find_scalar(module: pl.LightningModule, target: str) -> ScalarRef:
    """Find a declared scalar by its name or dotted path.

    Args:
        module: The model.
        target: Name or path.

    Raises:
        ValueError: None, or several, have that name; the message lists what there is.
    """
    scalars = annealable_scalars(module)
    matches = [s for path, s in scalars.items() if path == target or path.endswith(f".{target}")]
    if len(matches) == 1:
        return matches[0]
    problem = "no scalar has that name" if not matches else "several scalars have that name"
    raise ValueError(
        f"cannot anneal {target!r}: {problem}; this model has {', '.join(scalars) or 'none'}"
    )
