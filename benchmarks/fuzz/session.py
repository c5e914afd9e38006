"""The command line in this process, on a few images, with what a run did noted down."""

import contextlib
import functools
import gc
import io
import logging
import os
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning.callbacks import Callback, timer

from benchmarks.fuzz.settings import TEST, TRAIN
from dvae.cli import DVAECLI
from dvae.cli import main as train
from dvae.data import MNIST, ImageDataModule, Images, Split
from dvae.models import DiscreteVAE
from dvae.scalars import annealable_scalars

__all__ = ["Diary", "Moment", "Session", "few_images", "image_folder", "session"]


@dataclass(frozen=True)
class Moment:
    """The settings that a step was taken with.

    Attributes:
        lr: Learning rate.
        scalars: Annealed scalars by name.
        bounds: Being trained, of its batches.
    """

    lr: float
    scalars: dict[str, float]
    bounds: list[float]


class Diary(Callback):
    """Note the steps of a run, with what they were taken at, and its validations.

    Attributes:
        batches: Training batches that were finished.
        steps: Steps by their number, counted from 0.
        validations: Optimizer steps before each, with ``val/elbo``.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.steps: dict[int, Moment] = {}
        self.validations: list[tuple[int, float]] = []
        self._bounds: list[float] = []

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor
    ) -> None:
        """Note the bound that is trained."""
        assert isinstance(pl_module, DiscreteVAE)
        if "bound" in pl_module.last_terms:
            self._bounds.append(float(pl_module.last_terms["bound"].mean()))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note what the step is taken with."""
        scalars = {
            path.rsplit(".", 1)[-1]: float(scalar.buffer)
            for path, scalar in annealable_scalars(pl_module).items()
        }
        bounds, self._bounds = self._bounds, []
        self.steps[trainer.global_step] = Moment(optimizer.param_groups[0]["lr"], scalars, bounds)

    def on_train_batch_end(self, *args: Any) -> None:
        """Count the batch."""
        self.batches += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the validation."""
        if not trainer.sanity_checking:
            elbo = trainer.callback_metrics.get("val/elbo", torch.tensor(torch.nan))
            self.validations.append((trainer.global_step, float(elbo)))


@dataclass
class Session:
    """What became of a command.

    Attributes:
        code: Exit code; ``None`` after an exception.
        error: The exception that left it.
        output: What was printed, log and errors besides.
        diary: Diary of the training.
        trainer: Where one was made.
        model: Where one was made.
        data: Where one was made.
    """

    code: int | None = None
    error: BaseException | None = None
    output: str = ""
    diary: Diary = field(default_factory=Diary)
    trainer: pl.Trainer | None = None
    model: DiscreteVAE | None = None
    data: ImageDataModule | None = None

    @property
    def lines(self) -> list[str]:
        """The lines that report an error."""
        return [line for line in self.output.splitlines() if line.startswith("error: ")]

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        found = {} if self.trainer is None else self.trainer.callback_metrics
        return {name: float(value) for name, value in found.items()}


def session(
    words: Sequence[str],
    callbacks: Sequence[Callback] = (),
    files: bool = False,
    cheap: bool = True,
) -> Session:
    """Run a command of the command line in this process.

    Args:
        words: Its arguments.
        callbacks: Callbacks that come before all others.
        files: Whether a folder of images is too large for memory.
        cheap: Whether figures are left blank, which are most of such a run.
    """
    _freeze()
    found = Session()
    diary, text = found.diary, io.StringIO()

    class Observed(DVAECLI):
        def instantiate_classes(self) -> None:
            super().instantiate_classes()
            found.trainer, found.model = self.trainer, self.model
            found.data = self.datamodule
            # First of all, so that an end is known to those that save.
            self.trainer.callbacks[:0] = [diary, *callbacks]  # type: ignore[attr-defined]

    handler = logging.StreamHandler(text)
    log = logging.getLogger("dvae")
    log.addHandler(handler)
    try:
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            enter(mock.patch.dict(os.environ, WANDB_MODE="disabled"))
            enter(few_images(files))
            # A clock that ticks with each batch.
            clock = types.SimpleNamespace(monotonic=lambda: float(diary.batches))
            enter(mock.patch.object(timer, "time", clock))
            if cheap:
                enter(mock.patch.object(Figure, "draw"))
                enter(mock.patch.object(Figure, "savefig", _touch))
            enter(contextlib.redirect_stdout(text))
            enter(contextlib.redirect_stderr(text))
            found.code = train(list(words), Observed)
    except (Exception, SystemExit) as error:
        found.error = error
    finally:
        log.removeHandler(handler)
        found.output = text.getvalue()
    return found


@contextlib.contextmanager
def few_images(files: bool) -> Iterator[None]:
    """Let MNIST be its first images only, and a folder too large for memory where that is wanted.

    Args:
        files: Whether it is.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(MNIST, "load", _few))
        if files:
            none_free = types.SimpleNamespace(available=0)
            stack.enter_context(mock.patch("psutil.virtual_memory", lambda: none_free))
        yield


def image_folder(folder: Path) -> None:
    """Write a few images of two classes, of several sizes and kinds, with a split for the test.

    Args:
        folder: Where to; it is not there yet.
    """
    draw = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count):
            place = folder / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            height, width = 16 + number % 3, 16 + number % 4
            pixels = draw.integers(256, size=(height, width, 3), dtype=np.uint8)
            ending = ("png", "bmp", "jpg")[number % 3]
            Image.fromarray(pixels).save(place / f"{number}.{ending}")


def _touch(figure: Figure, path: Path, **kwargs: Any) -> None:
    Path(path).touch()


def _few(data: MNIST, split: Split) -> Images:
    return _first(split)


_load = MNIST.load


@functools.cache
def _freeze() -> None:
    # Callbacks that draw collect garbage; walking over all that was imported takes half a second.
    gc.collect()
    gc.freeze()


@functools.cache
def _first(split: Split) -> Images:
    loaded, count = _load(MNIST(), split), TRAIN if split == "train" else TEST
    return Images(loaded.images[:count].clone(), loaded.labels[:count].clone())
