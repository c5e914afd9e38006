"""Refuses settings of Lightning's trainer that would end in a traceback of its own."""

import math

from jsonargparse import Namespace

from dvae.models.precision import check_precision
from dvae.scalars import MOST

__all__ = ["check_length", "check_trainer_settings"]

_AT_LEAST_ONE = ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps")


def check_trainer_settings(settings: Namespace) -> None:
    """Look at what Lightning divides by, counts with, or casts the weights to.

    Args:
        settings: Below the key ``trainer``.

    Raises:
        ValueError: A value that cannot work.
    """
    for key in _AT_LEAST_ONE:
        value = settings.get(key)
        if isinstance(value, int) and value < 1:
            raise ValueError(f"trainer.{key} must be >= 1; got {value}")
    # Lightning compares and divides by it; a null is no number, and torch counts to 2^63.
    batches = settings.get("accumulate_grad_batches", 1)
    if batches is None or batches > MOST:
        text = "null" if batches is None else batches
        raise ValueError(f"trainer.accumulate_grad_batches must be >= 1 and < 2^31; got {text}")
    clip = settings.get("gradient_clip_val")
    if isinstance(clip, float) and math.isnan(clip):
        raise ValueError("trainer.gradient_clip_val must be a number, or null for none; got nan")
    interval = settings.get("val_check_interval")
    if isinstance(interval, (int, float)) and interval <= 0:
        raise ValueError(f"trainer.val_check_interval must be > 0; got {interval}")
    overfit = settings.get("overfit_batches")
    if isinstance(overfit, (int, float)) and (
        not 0 <= overfit <= MOST or (overfit > 1 and overfit % 1)
    ):
        raise ValueError(
            f"trainer.overfit_batches must be a fraction, or a count of batches; got {overfit}"
        )
    devices = str(settings.get("devices"))  # a number may be read as text
    if devices == "0" or (devices.startswith("-") and devices != "-1"):
        raise ValueError(f"trainer.devices must be >= 1, or -1 for all there are; got {devices}")
    check_precision(settings.get("precision"))


def check_length(settings: Namespace) -> None:
    """Refuse a training of no step, and one without an end, along which nothing can be scheduled.

    Args:
        settings: Below the key ``trainer``.

    Raises:
        ValueError: It is one of these.
    """
    if settings.get("fast_dev_run"):
        return  # has a length of its own
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        value = settings.get(key)
        if isinstance(value, (int, float)) and value == 0:
            raise ValueError(f"trainer.{key} must be above 0, or nothing is trained; got {value}")
    if settings.get("max_steps", -1) is None:
        raise ValueError("trainer.max_steps must be an integer >= 1, or -1 for no limit; got null")
    ends = ("max_epochs", "max_steps", "max_time")
    if all(settings.get(key) in (None, -1) for key in ends):
        raise ValueError(
            "the training would never end: set trainer.max_epochs, trainer.max_steps or "
            "trainer.max_time"
        )
