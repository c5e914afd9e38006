"""How often a short run is logged."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["ShortRun"]

_TIMES = 10


class ShortRun(Callback):
    """Log a run at least ten times, where Lightning's every fiftieth step would be less.

    A folder of some hundred photographs makes an epoch of a few steps, and a run without a single
    value of the training.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shorten the interval where the run is short."""
        steps: int | None = getattr(pl_module, "run_steps", None)
        if steps is not None:
            every = min(trainer.log_every_n_steps, max(1, steps // _TIMES))  # type: ignore[attr-defined]
            trainer.log_every_n_steps = every  # type: ignore[attr-defined]
