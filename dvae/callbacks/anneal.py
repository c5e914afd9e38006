"""One callback for the temperature, the KL weight and any other declared scalar."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dvae.devices import is_waited_for
from dvae.models.finetune import Carry
from dvae.models.logging import is_logged
from dvae.scalars import ScalarRef, annealable_scalars
from dvae.schedules import Constant, Rescaled, Schedule

__all__ = ["Anneal"]


class Anneal(Callback):
    """Move a scalar of the model by a schedule of the training step, and log it.

    The value is a buffer of the model, so it is in every checkpoint; the step is the trainer's,
    so a resumed run goes on where it stood.

    Args:
        target: Name of the scalar (``tau``, ``beta``), or its dotted path from the model where
            the name is not unique.
        schedule: Step to value.
        carry: What becomes of the value that the model has when training starts, as after
            `init_from`: ``restart`` (the schedule's own start), ``continue`` (from that value to
            the schedule's end, see `Rescaled`) or ``hold`` (that value throughout).

    Raises:
        ValueError: When training is set up: no such scalar, several of that name, a schedule
            that leaves the range of the scalar, or one that needs the length of an endless run.
    """

    def __init__(self, target: str, schedule: Schedule, carry: Carry = "restart") -> None:
        self.target = target
        self.schedule = schedule
        self.carry = carry
        self._first: float | None = None  # known when training starts
        self._scalar: ScalarRef | None = None
        self._schedule = schedule
        self._run_steps: int | None = None

    @property
    def state_key(self) -> str:
        """Tell apart the callbacks of several scalars in a checkpoint."""
        return f"Anneal[{self.target}]"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the scalar and check the schedule against its range."""
        scalar = find_scalar(pl_module, self.target)
        for value in self._carried(float(scalar.buffer)).bounds():
            scalar.range.check(f"anneal.{self.target}", value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn the length of the run."""
        # Buffers may have been replaced since setup, by a move to another device.
        self._scalar = find_scalar(pl_module, self.target)
        if self._first is None:
            self._first = float(self._scalar.buffer)
        self._schedule = self._carried(self._first)
        steps = trainer.estimated_stepping_batches
        self._run_steps = int(steps) if 0 < steps < float("inf") else None
        self._schedule.check_run(self._run_steps)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the value of this step, and log it where the step is logged."""
        assert self._scalar is not None
        value = self._schedule(trainer.global_step, self._run_steps)
        self._scalar.buffer.fill_(value)
        if is_logged(trainer):
            # What Lightning has for a bar it reads in every step, also where there is none.
            shown = self.target == "tau" and not is_waited_for(self._scalar.buffer)
            pl_module.log(f"anneal/{self.target}", value, prog_bar=shown)

    def state_dict(self) -> dict[str, Any]:
        """Return the value that was carried over, which a resumed run could not know."""
        return {} if self.carry == "restart" else {"first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self._first = state_dict["first"]

    def _carried(self, first: float) -> Schedule:
        if self.carry == "restart":
            return self.schedule
        return Constant(first) if self.carry == "hold" else Rescaled(self.schedule, first)


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
