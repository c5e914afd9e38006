"""Which training steps anybody sees."""

import pytorch_lightning as pl

__all__ = ["is_logged"]

_PROGRESS_BAR = 25


def is_logged(trainer: pl.Trainer) -> bool:
    """Tell whether a logger, or now and then the progress bar, shows the values of this step.

    Lightning takes about 0.2 ms to log a value, whether it is shown or not: for all of them a
    tenth of a small model's step.

    Args:
        trainer: In a training step, or the hooks just before and after.
    """
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    stride = max(1, _PROGRESS_BAR if every % _PROGRESS_BAR == 0 else every)
    step = trainer.fit_loop.total_batch_idx
    return step == 0 or (step + 1) % stride == 0
