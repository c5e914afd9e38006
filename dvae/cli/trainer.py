"""Refuses settings of Lightning's trainer that would end in a traceback, or have no effect."""

import re
from collections.abc import Callable, Sequence
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

from dvae.models.precision import AUTO, PRECISIONS, check_precision
from dvae.scalars import MAX_COUNT

__all__ = ["check_additions", "check_device", "check_length", "check_trainer_settings"]

# What Lightning refuses without a logger, when the run's folder is there already.
_WRITERS = (DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor)
# Strategies whose processes are copies of this one: what callbacks know stays in them, such as
# which checkpoint is the best.
_COPIES = re.compile("spawn|fork|notebook")

_Rules = Sequence[tuple[str, Callable[[Any], Any], str]]
"""Keys of the trainer, whether a value is refused, and what it must be."""


def _below(least: float) -> Callable[[Any], bool]:
    return lambda v: v is not None and not v >= least  # also where it is nan


def _no_batches(v: Any) -> bool:
    return v is not None and (not 0 <= v <= MAX_COUNT or (v > 1 and v % 1 != 0))


# What Lightning divides by, counts with, or starts processes by; and keys without an effect here.
_RULES: _Rules = (
    ("accumulate_grad_batches", lambda v: v is None or v > MAX_COUNT, ">= 1 and < 2^31"),
    ("accumulate_grad_batches", _below(1), ">= 1"),
    ("check_val_every_n_epoch", _below(1), ">= 1"),
    ("log_every_n_steps", _below(1), ">= 1"),
    ("gradient_clip_val", _below(0), ">= 0, or null for none"),
    ("val_check_interval", lambda v: isinstance(v, int | float) and v <= 0, "> 0"),
    ("overfit_batches", _no_batches, "a fraction, or a count of batches"),
    ("num_sanity_val_steps", _below(-1), ">= 0, or -1 for all batches"),
    # A number may be read as text.
    ("devices", lambda v: re.match("0$|-(?!1$)", str(v)), ">= 1, or -1 for all there are"),
    (
        "strategy",
        lambda v: isinstance(v, str) and _COPIES.search(v),
        "one that starts processes of their own, such as ddp",
    ),
    (
        "barebones",
        lambda v: v,
        "false: it takes away what is measured and saved (trainer.logger false and "
        "trainer.enable_checkpointing false leave out files)",
    ),
    (
        "reload_dataloaders_every_n_epochs",
        lambda v: v,
        "0: the images come in a new order in every epoch, and a new loader would begin it again",
    ),
    ("model_registry", lambda v: v, "null: checkpoints stay in the folder of the run"),
    ("default_root_dir", lambda v: v is None, "a folder, such as runs"),
)
_LENGTH: _Rules = (
    ("max_epochs", lambda v: v == 0, "above 0, or nothing is trained"),
    ("max_steps", lambda v: v == 0, "above 0, or nothing is trained"),
    ("max_steps", lambda v: v is None, "an integer >= 1, or -1 for no limit"),
    ("limit_train_batches", lambda v: v == 0, "above 0, or nothing is trained"),
)


def check_trainer_settings(settings: Namespace) -> None:
    """Look at what Lightning divides by, counts with, or casts the weights to, and at idle keys.

    Args:
        settings: Below the key ``trainer``.

    Raises:
        ValueError: A value that cannot work.
    """
    _check(settings, _RULES)
    check_precision(settings.get("precision"), (AUTO, *PRECISIONS))


def _check(settings: Namespace, rules: _Rules) -> None:
    for key, is_refused, allowed in rules:
        if key in settings and is_refused(value := settings[key]):
            got = "null" if value is None else "true" if value is True else value
            raise ValueError(f"trainer.{key} must be {allowed}; got {got}")


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
    _check(settings, _LENGTH)
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
