"""The images that callbacks look at: some of the validation images, spread over the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from dvae.data import ImageDataModule, TokenData
from dvae.data.batch import as_batch
from dvae.data.images import class_name
from dvae.data.loading import Loader
from dvae.data.seeding import seeded_generator

__all__ = ["Examples", "spread", "training_examples", "validation_examples"]


@dataclass(frozen=True)
class Examples:
    """Some images, on the CPU.

    Attributes:
        image: As their loader has them, ``(N, C, H, W)``: `DiscreteVAE.images_of` makes pixels of
            them, wherever they are bytes.
        label: Their classes, ``(N,)``; None where they are not known.
        names: What people call the classes; None where they have numbers only.
    """

    image: Tensor
    label: Tensor | None
    names: Sequence[str] | None

    @property
    def words(self) -> list[int | str] | None:
        """The class of each image, by its name where it has one; None where it is not known."""
        if self.label is None:
            return None
        return [class_name(label, self.names) for label in self.label.tolist()]


def validation_examples(trainer: pl.Trainer, count: int) -> Examples | None:
    """Take some of the validation images, without a trace in the training.

    Of a loader of this package they are spread over the classes, and the same at each call; of any
    other they are the first ones, as it hands them to the model.

    Args:
        trainer: Trainer of the run; in one of several processes, those of this process are taken.
        count: How many, at least 1; all that there are, if fewer.

    Returns:
        The images; None where there are none.
    """
    loaders = trainer.val_dataloaders
    # Where validation is switched off the trainer has no loader, and the data still has images.
    data = _data(trainer)
    if loaders is None and data is not None:
        loaders = data.val_dataloader()
    loader = _first(loaders)
    if isinstance(loader, Loader):
        return _take(loader, count, data)
    images, labels, seen = [], [], 0
    # It, or its workers, may draw from the global generator.
    with isolate_rng():
        for batch in loader or []:
            shape: Any = trainer.lightning_module.event_shape
            image, label = as_batch(trainer.strategy.batch_to_device(batch), shape)
            images.append(image.cpu())
            labels.append(label)
            seen += len(image)
            if seen >= count:
                break
    if not images:
        return None
    known = [label.cpu() for label in labels if label is not None]
    label = torch.cat(known)[:count] if len(known) == len(images) else None
    return Examples(torch.cat(images)[:count], label, None)


def training_examples(trainer: pl.Trainer, count: int) -> Examples | None:
    """Take some of the training images, as `validation_examples`.

    Args:
        trainer: Trainer of the run.
        count: How many, at least 1.

    Returns:
        The images; None where the loader is not of this package: going through another one would
        change the order of training.
    """
    loader = _first(trainer.train_dataloader)
    if not isinstance(loader, Loader) or isinstance(_data(trainer), TokenData):
        return None
    return _take(loader, count, _data(trainer))


def spread(label: Tensor | None, total: int, count: int) -> Tensor:
    """Choose images so that each class is there, and else as often as among all.

    Args:
        label: Classes, ``(total,)``; without them, the choice is even over the set.
        total: Images to choose from.
        count: How many of them, at least 1; all if there are fewer.

    Returns:
        Their positions, ascending; the same at each call.
    """
    count = min(count, total)
    if label is None:
        return torch.arange(count) * total // max(count, 1)
    # In an order that has nothing to do with the set's, which may be that of time.
    order = torch.randperm(total, generator=seeded_generator("images to look at"))
    _, of, sizes = label.cpu()[order].unique(return_inverse=True, return_counts=True)
    by_class = of.argsort(stable=True)
    place = torch.empty(total, dtype=torch.int64)  # of each image in its class
    place[by_class] = torch.arange(total) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    # One of each class comes first; of the others, the same fraction of each.
    turn = torch.where(place == 0, -1.0, (place + 0.5) / sizes[of])
    return order[turn.argsort(stable=True)[:count]].sort().values


def _take(loader: Loader, count: int, data: ImageDataModule | None) -> Examples | None:
    known = data is None or data.labelled
    chosen = spread(loader.labels if known else None, len(loader.labels), count)
    if not len(chosen):
        return None
    image, label = loader.take(chosen)
    names = None if data is None else data.class_names
    return Examples(image, label if known else None, names)


def _first(loaders: Any) -> Any:
    return next(iter(CombinedLoader(loaders).flattened), None)


def _data(trainer: pl.Trainer) -> ImageDataModule | None:
    data = getattr(trainer, "datamodule", None)  # set where a type checker does not see it
    return data if isinstance(data, ImageDataModule) else None
