"""The loader that goes with images in memory, or in their files, for one process of a trainer."""

import pytorch_lightning as pl

from dvae.data.files import FileLoader, ImageFiles
from dvae.data.images import Images
from dvae.data.resident import ResidentLoader

__all__ = ["Loader", "make_loader"]

Loader = ResidentLoader | FileLoader


def make_loader(
    images: Images | ImageFiles,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    trainer: pl.Trainer | None,
) -> Loader:
    """Make the loader of a set of images.

    Args:
        images: The set.
        batch_size: Images in a batch of one process, at least 1.
        shuffle: Whether to go on in the endless order (training) or once through (evaluation).
        seed: Seed of the order; unused without `shuffle`.
        trainer: Whose process and device it is for; one process and the CPU if None.

    Raises:
        ValueError: The set is smaller than the number of processes.
    """
    rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
    if isinstance(images, ImageFiles):
        return FileLoader(
            images, batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
        )
    return ResidentLoader(
        images.images,
        images.labels,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        device="cpu" if trainer is None else trainer.strategy.root_device,
        rank=rank,
        world_size=world_size,
    )
