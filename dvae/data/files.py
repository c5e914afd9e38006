"""Images that stay in their files, read by worker processes while the model works."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dvae.data.batch import Batch
from dvae.data.order import EndlessOrder, chosen_batches
from dvae.data.seeding import seeded_generator

__all__ = ["FileLoader", "ImageFiles"]


@dataclass(frozen=True)
class ImageFiles(Dataset[Batch]):
    """A set of images too large for memory, with their labels.

    Attributes:
        paths: The files.
        labels: Classes, shape (N,), int64.
        read: Turns a path into an image, shape (C, H, W), uint8; it runs in worker processes.
    """

    paths: Sequence[Path]
    labels: Tensor
    read: Callable[[Path], Tensor]

    def __len__(self) -> int:
        """Count the files."""
        return len(self.paths)

    def __getitem__(self, position: int) -> Batch:
        """Read one image."""
        return Batch(self.read(self.paths[position]), self.labels[position])

    def select(self, index: Tensor) -> "ImageFiles":
        """Take some of the files.

        Args:
            index: Which ones, shape (M,), int64.
        """
        paths = [self.paths[i] for i in index.tolist()]
        return ImageFiles(paths, self.labels.index_select(0, index), self.read)


@final
class FileLoader:
    """Batches read by one worker process for each core; order and resume as `ResidentLoader`.

    Args:
        files: The set.
        batch_size: Images in a batch of one rank, at least 1.
        shuffle: Whether to go on in the endless order (training) or once through (evaluation).
        seed: Seed of the order; unused without `shuffle`.
        rank: Number of this process.
        world_size: Number of processes that share the set.
    """

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(files) < world_size:
            raise ValueError(
                f"A loader for {world_size} process(es) needs at least as many images, "
                f"got {len(files)}."
            )
        self.files = files
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.order = EndlessOrder(len(files), batch_size, seed, rank, world_size)
        # A shuffled loader has all of them, as `ResidentLoader`.
        share = torch.arange(len(files)) if shuffle else torch.arange(rank, len(files), world_size)
        self._share = share
        self.labels = files.labels[share]
        self._once = [part.tolist() for part in share.split(batch_size)]
        self._chosen: Sequence[int] = range(len(self._once))

    def __len__(self) -> int:
        """Count the batches of an epoch, on this rank."""
        return len(self.order) if self.shuffle else len(self._chosen)

    def only(self, batches: Sequence[int]) -> "FileLoader":
        """Go through some of the batches only, as `ResidentLoader.only`."""
        self._chosen = chosen_batches(self, batches)
        return self

    def take(self, index: Tensor) -> Batch:
        """Read some images, whatever is being iterated over.

        Args:
            index: Positions in `labels`, shape (M,), int64, at least one.

        Returns:
            The images, uint8, with their labels.
        """
        positions = [part.tolist() for part in self._share[index].split(self.batch_size)]
        images, labels = zip(*self._read(positions), strict=True)
        return Batch(torch.cat(images), torch.cat(labels))

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches on the CPU, images uint8."""
        if not self.shuffle:
            yield from self._read([self._once[number] for number in self._chosen])
            return
        start = self.order.batches
        ahead = [self.order.batch(start + i).tolist() for i in range(len(self.order))]
        for batch in self._read(ahead):
            # Counted as it is handed out, not as a worker reads it: that is what a resumed run
            # has seen.
            self.order.batches += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Report the place in the order."""
        return self.order.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go to a place in the order; without `shuffle` there is nowhere to go."""
        if self.shuffle:
            self.order.load_state_dict(state_dict)

    def _read(self, batches: list[list[int]]) -> Iterator[Batch]:
        cuda = torch.cuda.is_available()
        yield from DataLoader(
            self.files,
            batch_sampler=batches,
            num_workers=min(len(batches), len(os.sched_getaffinity(0))),
            pin_memory=cuda,
            # Forked workers may inherit a locked thread pool of the training.
            multiprocessing_context="forkserver" if cuda else None,
            worker_init_fn=_leave_signals_to_the_training,
            # Or it would seed the workers from the global generator, and training would notice.
            generator=seeded_generator("seeds of the workers"),
        )


def _leave_signals_to_the_training(worker: int) -> None:
    # A signal to the whole group of processes would end the workers at once, and with them the step
    # that is to be saved. They go when their parent has no more work for them, or is gone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
