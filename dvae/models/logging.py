"""Which training steps are logged, and the means of their batches."""

import math
from collections.abc import Mapping, Sequence

import pytorch_lightning as pl
from torch import Tensor

from dvae.functional import batch_mean
from dvae.models.objectives import Objective, ObjectiveOutput

__all__ = ["StepMeans", "is_logged", "training_values", "was_logged"]


def is_logged(trainer: pl.Trainer) -> bool:
    """Tell whether the loggers show the values of the step under way, or it is the first.

    Lightning takes about half a millisecond to log a value, whether it is shown or not: for all of
    them more than a tenth of a small model's step. It counts the optimizer's steps, of which each
    may take several batches.

    Args:
        trainer: Trainer in a training step, or the hooks before the optimizer's step is taken.
    """
    return _is_shown(trainer, trainer.global_step)


def was_logged(trainer: pl.Trainer) -> bool:
    """Tell whether the loggers show the step that was taken last, or it was the first.

    Args:
        trainer: Trainer in the hooks after a step.
    """
    return _is_shown(trainer, trainer.global_step - 1)


def _is_shown(trainer: pl.Trainer, step: int) -> bool:
    every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
    return step == 0 or (step + 1) % every == 0


def training_values(
    out: ObjectiveOutput, objective: Objective, index_shape: Sequence[int]
) -> tuple[str, dict[str, Tensor]]:
    """Name what is logged of a batch.

    Args:
        out: What the objective returned.
        objective: The objective.
        index_shape: Shape of the integers of one image.

    Returns:
        What a bar shows of the training: the bound, or the loss where it is not a bound. And the
        values by name, each ``()``.
    """
    suffix, loss = objective.suffix, out.loss.detach()
    values = {"train/loss": loss, f"train/kl{suffix}": batch_mean(out.kl)}
    values |= {f"train/{name}": value for name, value in out.terms.items()}
    if objective.prior_alone:
        bits = loss / (math.prod(index_shape) * math.log(2))
        values[f"train/prior_bits_per_token{suffix}"] = bits
    if out.log_px is not None:
        values["train/reconstruction"] = -batch_mean(out.log_px)
    if out.bound is None:
        return "train/loss", values
    return "train/elbo", values | {"train/elbo": batch_mean(out.bound)}


class StepMeans:
    """Values of a step, averaged over its batches as the loss is whose gradients are added up."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    def add(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add the values of a batch.

        Args:
            values: Values by name, each ``()``, without a gradient.

        Returns:
            Their means over the batches since `clear`.
        """
        self._batches += 1
        if self._batches == 1:
            self._sums = dict(values)
            return dict(values)
        self._sums = {name: self._sums[name] + value for name, value in values.items()}
        return {name: total / self._batches for name, total in self._sums.items()}

    def clear(self) -> None:
        """Begin another step."""
        self._batches = 0
