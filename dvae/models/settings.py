"""The settings of a model as plain values, from which a checkpoint's reader builds it again."""

import inspect
import warnings
from contextlib import suppress
from types import FrameType

import pytorch_lightning as pl

from dvae.described import describe, path_of
from dvae.runs.trust import BUILDER, CLASS_PATH, INSTANTIATOR

__all__ = ["remember_settings"]


def remember_settings(model: pl.LightningModule, frame: FrameType | None) -> None:
    """Keep the arguments of a model's constructor in its ``hparams``.

    They are what the command line was given where that builds it, and are described otherwise. What
    cannot be, such as a function that makes the optimizer or a network of ``__main__``, is left
    out: a load that executes no code could not read it, and is given it again.

    Args:
        model: The model, all of whose parts are there.
        frame: Frame of its constructor, whose arguments are as they were given.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.save_hyperparameters(logger=False, frame=frame)
    names = inspect.signature(type(model)).parameters
    settings = {}
    for name, value in model.hparams.items():
        # A subclass may have given its base arguments of its own making.
        if name in (*names, CLASS_PATH, INSTANTIATOR):
            with suppress(ValueError):
                settings[name] = describe(value)
    settings.setdefault(INSTANTIATOR, BUILDER)
    if names.keys() - {"optimizer"} <= settings.keys():
        with suppress(ValueError):
            settings.setdefault(CLASS_PATH, path_of(type(model)))
    model.hparams.clear()
    model.hparams.update(settings)
