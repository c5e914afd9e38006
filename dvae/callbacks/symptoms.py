"""What a run suffers from, in a line: the figures show it, and people see it hours later."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dvae.callbacks.start_at_mean import StartAtMean, bias_of

__all__ = ["Symptoms"]

log = logging.getLogger("dvae")

# Codes in effective use below which all images have one code.
_ONE_CODE = 1.01
_COLLAPSED = 2  # validations in a row: a slow start has one code too
# Validations in a row, and share of the best bound, after which the bounds have parted.
_PARTED = 3
_SHARE = 0.01

_STATE = ("collapsed", "parted", "best")


class Symptoms(Callback):
    """Say once, after a validation, what does not mend itself.

    All images have one code, two validations long; or the bound of hard codes falls, three
    validations long, while that of the relaxed codes, which is what a relaxed estimator trains,
    rises.
    """

    def __init__(self) -> None:
        # Validations in a row that showed it.
        self._collapsed = self._parted = 0
        # Step, bound of hard codes and bound of relaxed ones.
        self._best: tuple[int, float, float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen and said."""
        return {name: getattr(self, f"_{name}") for name in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        for name in _STATE:
            setattr(self, f"_{name}", state_dict[name])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the figures."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._collapsed < _COLLAPSED:
            same = found.get("val/perplexity", _ONE_CODE) < _ONE_CODE
            self._collapsed = self._collapsed + 1 if same else 0
            if self._collapsed == _COLLAPSED:
                log.warning(
                    "all images of the validation have the same code (step %d): start again with "
                    "%sanother seed_everything",
                    *(trainer.global_step, _first_of_all(trainer, pl_module)),
                )
        if self._parted < _PARTED and "val/relaxation_gap" in found:
            self._compare(trainer.global_step, found["val/elbo"], found["val/elbo_relaxed"])

    def _compare(self, step: int, hard: float, relaxed: float) -> None:
        if self._best is None or not hard < self._best[1]:
            self._best, self._parted = (step, hard, relaxed), 0
            return
        since, best, then = self._best
        apart = best - hard > _SHARE * abs(best) and relaxed > then
        self._parted = self._parted + 1 if apart else 0
        if self._parted == _PARTED:
            log.warning(
                "since step %d the bound of hard codes has fallen from %.1f to %.1f, while that "
                "of relaxed codes, which is trained, rose from %.1f to %.1f: lower anneal.tau, or "
                "take an estimator whose code is hard (ReinMax, StraightThrough, or hard: true)",
                *(since, best, hard, then, relaxed),
            )


def _first_of_all(trainer: pl.Trainer, model: pl.LightningModule) -> str:
    """Name what helps most, where it can be had."""
    given = any(isinstance(callback, StartAtMean) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    try:
        bias_of(model)
    except ValueError:
        return ""
    said = "--trainer.callbacks+=StartAtMean, by which the decoder begins at the mean image, or "
    return "" if given else said
