"""Which training steps anybody sees."""

import pytorch_lightning as pl

__all__ = ["is_logged"]


def is_logged(trainer: pl.Trainer) -> bool:
    """Tell whether the loggers show the values of this step, or it is the first.

    Lightning takes about half a millisecond to log a value, whether it is shown or not: for all of
    them more than a tenth of a small model's step.

    Args:
        trainer: In a training step, or the hooks just before and after.
    """
    step = trainer.fit_loop.total_batch_idx
    every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
    return step == 0 or (step + 1) % every == 0
