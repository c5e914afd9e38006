"""One picture of the whole run: what was annealed, bounds and code use over steps."""

import logging
from collections import defaultdict
from typing import Any

import matplotlib
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dvae.callbacks.pictures import run_folder
from dvae.scalars import annealable_scalars

__all__ = ["PANELS", "Curves"]

log = logging.getLogger("dvae")

# Title, unit and metrics of each panel; the scalars come from the model itself.
PANELS = (
    ("annealing: τ, β and learning rate", "τ, β", ("anneal/tau", "anneal/beta")),
    ("ELBO", "nats per example", ("train/elbo", "val/elbo_relaxed", "val/elbo")),
    ("relaxation gap", "nats per example", ("val/relaxation_gap",)),
    ("KL", "nats per example", ("train/kl", "val/kl")),
    ("reconstruction", "nats per example", ("train/reconstruction", "val/reconstruction")),
    ("perplexity and dead codes", "codes", ("val/perplexity", "val/dead_codes")),
)
_DRAWN = {"anneal/lr"}.union(*(names for _, _, names in PANELS))


class Curves(Callback):
    """Collect the logged values and draw them at the end, as ``media/curves.png``.

    The values are part of the checkpoint, so the picture of a resumed run has all of it.
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
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Collect the training values as often as they are logged."""
        step = trainer.global_step
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

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the picture."""
        if not trainer.is_global_zero or not self._points:
            return
        folder = run_folder(trainer) / "media"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draw_curves(self._points, folder / "curves.png")
        except OSError as error:
            log.warning("cannot draw the curves (%s)", error)

    def _collect(self, trainer: pl.Trainer, prefix: str) -> None:
        # Only what is drawn: others may be of an earlier moment, as what is measured of the code at
        # the end of an epoch is at the next validation.
        for name, value in trainer.callback_metrics.items():
            if name.startswith(prefix) and name in _DRAWN:
                self._points[name].append((trainer.global_step, value.item()))


def draw_curves(points: dict[str, list[tuple[int, float]]], path: Any) -> None:
    """Draw the panels as PNG.

    Args:
        points: Steps and values by metric.
        path: Where to write.
    """
    # The object interface, so that neither a display nor a global state is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False}):
        figure = Figure(figsize=(12, 6), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (title, unit, names) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
            lines = [_line(axes, points, name) for name in names if points.get(name)]
            axes.set(title=title, xlabel="step", ylabel=unit)
            if "anneal/tau" in names and points.get("anneal/lr"):
                lines.append(_learning_rate(axes.twinx(), points))
            if lines:
                axes.legend(handles=lines, frameon=False)
                if title in ("ELBO", "reconstruction"):
                    _cut_the_start(axes, points, names)
        figure.savefig(path, dpi=120)


def _line(axes: Any, points: dict[str, list[tuple[int, float]]], name: str, **look: Any) -> Any:
    xs, ys = zip(*points[name], strict=True)
    marker = "." if len(xs) < 30 else None
    return axes.plot(xs, ys, label=name, linewidth=1.3, marker=marker, **look)[0]


def _learning_rate(axes: Any, points: dict[str, list[tuple[int, float]]]) -> Any:
    """Draw the learning rate on a scale of its own: it is a hundredth of the temperature."""
    line = _line(axes, points, "anneal/lr", color="C2", linestyle="--")
    axes.spines["right"].set_visible(True)
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    return line


def _cut_the_start(
    axes: Any, points: dict[str, list[tuple[int, float]]], names: tuple[str, ...]
) -> None:
    # The first steps are hundreds of nats off and would flatten the rest into a line.
    values = sorted(v for name in names for _, v in points.get(name, []))
    if len(values) < 20:
        return
    low, high = values[len(values) // 20], values[-len(values) // 20]
    margin = 0.15 * (high - low) + 1e-6
    axes.set_ylim(max(values[0], low - margin), min(values[-1], high + margin))
