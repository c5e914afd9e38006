"""One picture of the whole run: what was annealed, bounds and code use over steps."""

import logging
from collections import defaultdict
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback

from dvae.callbacks.gradient_probe import GradientProbe
from dvae.callbacks.pictures import picture_to_loggers
from dvae.compare.curves import ANNEALED, PANELS, draw_curves
from dvae.doing import doing
from dvae.plotting import save_figure
from dvae.runs.layout import run_folder
from dvae.scalars import annealable_scalars

__all__ = ["Curves"]

log = logging.getLogger("dvae")

_DRAWN = {name for *_, names, _ in PANELS for name in names} | {name for _, name in ANNEALED}


class Curves(Callback):
    """Collect the logged values and draw them at the end, as ``media/curves.png``.

    The values are part of the checkpoint, so the picture of a resumed run, whose ``metrics.csv``
    begins anew, has all of it.
    """

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._last_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the points of each curve."""
        return {"points": {name: list(points) for name, points in self._points.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the points of each curve."""
        for name, points in state_dict["points"].items():
            self._points[name] = [(int(step), float(value)) for step, value in points]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn where a resumed run stands."""
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Collect the training values as often as they are logged."""
        step = trainer.global_step
        self._collect_probes(trainer)
        # Under gradient accumulation several batches end at the same step.
        if step == self._last_step or step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self._last_step = step
        for path, scalar in annealable_scalars(pl_module).items():
            name = f"anneal/{path.rsplit('.', 1)[-1]}"
            self._points[name].append((trainer.global_step, scalar.buffer.item()))
        self._collect(trainer, "train/")
        self._collect(trainer, "anneal/lr")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the validation values."""
        if not trainer.sanity_checking:
            self._collect(trainer, "val/")

    @doing("drawing the curves")
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the picture, for the run's folder and the loggers."""
        if not trainer.is_global_zero or not self._points:
            return
        path = run_folder(trainer).curves
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_figure(draw_curves([self._points], [""]), path)
            with Image.open(path) as picture:
                picture_to_loggers(trainer, "curves", picture)
        except OSError as error:
            log.warning("cannot draw the curves (%s)", error)

    def _collect_probes(self, trainer: pl.Trainer) -> None:
        """Collect what a probe has measured after this step, whenever that is."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientProbe) and callback.measured is not None:
                step, metrics = callback.measured
                for name in _DRAWN & metrics.keys():
                    if not self._points[name] or self._points[name][-1][0] < step:
                        self._points[name].append((step, metrics[name]))

    def _collect(self, trainer: pl.Trainer, prefix: str) -> None:
        # Only what is drawn: others may be of an earlier moment, as what is measured of the code at
        # the end of an epoch is at the next validation.
        for name, value in trainer.callback_metrics.items():
            if name.startswith(prefix) and name in _DRAWN:
                self._points[name].append((trainer.global_step, value.item()))
