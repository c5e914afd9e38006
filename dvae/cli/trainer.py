"""Refuses settings of Lightning's trainer that would end in a traceback, or have no effect."""

import re
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Callback,
    DeviceStatsMonitor,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ThroughputMonitor,
    Timer,
)
from pytorch_lightning.plugins import CheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dvae.models.precision import check_precision
from dvae.scalars import MAX_COUNT

__all__ = ["check_additions", "check_device", "check_length", "check_trainer_settings"]

_AT_LEAST_ONE = ("accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps")
# What Lightning refuses without a logger, when the run's folder is there already.
_WRITERS = (DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor)
# Strategies whose processes are copies of this one: what callbacks know stays in them, such as
# which checkpoint is the best.
_COPIES = re.compile("spawn|fork|notebook")


def check_trainer_settings(settings: Namespace) -> None:
    """Look at what Lightning divides by, counts with, or casts the weights to, and at idle keys.

    Args:
        settings: Below the key ``trainer``.

    Raises:
        ValueError: A value that cannot work.
    """
    _check_numbers(settings)
    _check_idle(settings)
    devices = str(settings.get("devices"))  # a number may be read as text
    if devices == "0" or (devices.startswith("-") and devices != "-1"):
        raise ValueError(f"trainer.devices must be >= 1, or -1 for all there are; got {devices}")
    strategy = settings.get("strategy")
    if isinstance(strategy, str) and _COPIES.search(strategy):
        raise ValueError(
            "trainer.strategy must be one that starts processes of their own, such as ddp; got "
            f"{strategy}"
        )
    check_precision(settings.get("precision"))


def _check_numbers(settings: Namespace) -> None:
    for key in _AT_LEAST_ONE:
        value = settings.get(key)
        if isinstance(value, int) and value < 1:
            raise ValueError(f"trainer.{key} must be >= 1; got {value}")
    # Lightning compares and divides by it; null is not a number, and torch counts to 2^63.
    batches = settings.get("accumulate_grad_batches", 1)
    if batches is None or batches > MAX_COUNT:
        text = "null" if batches is None else batches
        raise ValueError(f"trainer.accumulate_grad_batches must be >= 1 and < 2^31; got {text}")
    clip = settings.get("gradient_clip_val")
    if clip is not None and not clip >= 0:  # also where it is nan
        raise ValueError(f"trainer.gradient_clip_val must be >= 0, or null for none; got {clip}")
    interval = settings.get("val_check_interval")
    if isinstance(interval, (int, float)) and interval <= 0:
        raise ValueError(f"trainer.val_check_interval must be > 0; got {interval}")
    overfit = settings.get("overfit_batches")
    if isinstance(overfit, (int, float)) and (
        not 0 <= overfit <= MAX_COUNT or (overfit > 1 and overfit % 1)
    ):
        raise ValueError(
            f"trainer.overfit_batches must be a fraction, or a count of batches; got {overfit}"
        )
    sanity = settings.get("num_sanity_val_steps")
    if sanity is not None and sanity < -1:
        raise ValueError(
            f"trainer.num_sanity_val_steps must be >= 0, or -1 for all batches; got {sanity}"
        )


def _check_idle(settings: Namespace) -> None:
    if settings.get("barebones"):
        raise ValueError(
            "trainer.barebones must be false: it takes away what is measured and saved; got true "
            "(trainer.logger false and trainer.enable_checkpointing false leave out files)"
        )
    if settings.get("reload_dataloaders_every_n_epochs"):
        raise ValueError(
            "trainer.reload_dataloaders_every_n_epochs must be 0: the images come in a new order "
            "in every epoch, and a new loader would begin it again; got "
            f"{settings.reload_dataloaders_every_n_epochs}"
        )
    if settings.get("model_registry") is not None:
        raise ValueError(
            "trainer.model_registry must be null: checkpoints stay in the folder of the run; got "
            f"{settings.model_registry}"
        )
    if settings.get("default_root_dir", "") is None:
        raise ValueError("trainer.default_root_dir must be a folder, such as runs; got null")


def check_length(settings: Namespace, callbacks: Sequence[Callback] = ()) -> None:
    """Refuse a training of no step, and one without an end, along which nothing can be scheduled.

    Args:
        settings: Below the key ``trainer``.
        callbacks: Those that the user adds; a `Timer` with a duration among them is an end.

    Raises:
        ValueError: It is one of these, or it has two timers.
    """
    if settings.get("fast_dev_run"):
        return  # has a length of its own
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        value = settings.get(key)
        if isinstance(value, (int, float)) and value == 0:
            raise ValueError(f"trainer.{key} must be above 0, or nothing is trained; got {value}")
    if settings.get("max_steps", -1) is None:
        raise ValueError("trainer.max_steps must be an integer >= 1, or -1 for no limit; got null")
    for what in ("epochs", "steps"):
        least, most = settings.get(f"min_{what}"), settings.get(f"max_{what}")
        if least is not None and most not in (None, -1) and least > most:
            raise ValueError(
                f"trainer.min_{what} must be <= trainer.max_{what}, {most}; got {least}"
            )
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    max_time = settings.get("max_time")
    if max_time is not None:
        _check_time(max_time)
        if timers:
            raise ValueError(
                f"trainer.max_time must be null beside a Timer in trainer.callbacks; got {max_time}"
            )
    timed = any(timer.time_remaining() is not None for timer in timers)
    ends = ("max_epochs", "max_steps", "max_time")
    if not timed and all(settings.get(key) in (None, -1) for key in ends):
        raise ValueError(
            "the training would never end: set trainer.max_epochs, trainer.max_steps or "
            "trainer.max_time"
        )


def _check_time(max_time: Any) -> None:
    try:
        seconds = Timer(max_time).time_remaining()
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(
            "trainer.max_time must be DD:HH:MM:SS, or a mapping such as {minutes: 30}; got "
            f"{max_time}"
        ) from error
    if seconds is None or seconds <= 0:
        raise ValueError(f"trainer.max_time must be > 0, or nothing is trained; got {max_time}")


def check_additions(callbacks: Sequence[Callback], plugins: Sequence[Any]) -> None:
    """Refuse callbacks and plugins that the run's own parts do not go with.

    Args:
        callbacks: Those that the user adds.
        plugins: Those that the user adds.

    Raises:
        ValueError: One changes what schedules have been made from, or writes the checkpoints.
    """
    # The finders search at the start of the fit, and again where it is resumed.
    found = {
        BatchSizeFinder: "data.batch_size",
        GradientAccumulationScheduler: "trainer.accumulate_grad_batches",
        LearningRateFinder: "the lr of model.optimizer",
    }
    for callback in callbacks:
        for kind, key in found.items():
            if isinstance(callback, kind):
                raise ValueError(
                    f"trainer.callbacks cannot have a {type(callback).__name__}: schedules and a "
                    f"resumed run need a value that stands in the config; set {key}"
                )
    for plugin in plugins:
        if isinstance(plugin, CheckpointIO):
            raise ValueError(
                "trainer.plugins cannot have a CheckpointIO: the run has one, which writes files "
                f"whole and reads them safely; got {type(plugin).__name__}"
            )


def check_device(settings: Namespace, trainer: pl.Trainer) -> None:
    """Refuse what the devices and loggers of a built trainer cannot do.

    Args:
        settings: Below the key ``trainer``.
        trainer: Made from them.

    Raises:
        ValueError: Batch norm is to be shared by processes on CPUs, or a callback has no logger to
            write to.
    """
    device = trainer.strategy.root_device.type
    if settings.get("sync_batchnorm") and device != "cuda":
        raise ValueError(f"trainer.sync_batchnorm needs GPUs; got true on {device}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, _WRITERS) and not trainer.loggers:
            raise ValueError(
                f"{type(callback).__name__} needs a logger to write to; got trainer.logger false"
            )
