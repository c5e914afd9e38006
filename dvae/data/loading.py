"""The loaders of a data set, from memory or from files, whose order resumes to the batch."""

import atexit
import multiprocessing
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Self, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dvae.data.batch import Batch
from dvae.data.images import ImageFiles, Images
from dvae.data.order import EndlessOrder
from dvae.data.seeding import seeded_generator
from dvae.scalars import check_count

__all__ = ["FileLoader", "Loader", "ResidentLoader", "make_loader"]


class Loader(ABC):
    """Batches of a set of images, for one of the processes that share it.

    With `shuffle`, the loader is a window on an endless stream, `EndlessOrder`: `iter()` goes on
    where the stream stands, also after an epoch that was cut short.

    Without `shuffle`, every image comes once, in order, the last batch being smaller where it must,
    and there is no state.

    Args:
        count: Images in the set, at least as many as processes.
        batch_size: Images in a batch of one process, at least 1. A shuffled set smaller than one
            batch is one smaller batch.
        shuffle: Whether to draw the endless shuffled stream (training) or to go through once in
            order (evaluation).
        seed: Seed of the stream; unused without `shuffle`.
        rank: Number of this process, in 0..world_size - 1.
        world_size: Number of processes that share the set, at least 1.
        device: Where the positions in the stream are wanted.

    Attributes:
        labels: Classes of the images that `take` takes from: all if shuffled, else those of this
            process.

    Raises:
        ValueError: If `batch_size` is below 1, the set is empty or smaller than `world_size`, or
            `rank` is out of range.
    """

    labels: Tensor

    def __init__(
        self,
        count: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """Check the sizes."""
        check_count("batch_size", batch_size, 1)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1} (world_size - 1), got {rank}.")
        if count < world_size:
            raise ValueError(
                f"A loader for {world_size} process(es) needs at least as many images, got {count}."
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.order = EndlessOrder(count, batch_size, seed, rank, world_size, device)
        self._share = slice(None) if shuffle else slice(rank, None, world_size)
        size = len(range(count)[self._share])
        self._chosen: Sequence[int] = range(-(-size // batch_size))

    def __len__(self) -> int:
        """Count the batches of an epoch, of this process."""
        return len(self.order) if self.shuffle else len(self._chosen)

    def only(self, batches: Sequence[int]) -> Self:
        """Go through some of the batches only, each as it is when all are; without `shuffle`.

        Args:
            batches: Their numbers, ascending.

        Returns:
            The loader itself.

        Raises:
            ValueError: If the loader shuffles, or has no such batch.
        """
        if self.shuffle or not all(0 <= batch < len(self) for batch in batches):
            raise ValueError(
                f"batches must be among 0..{len(self) - 1} of a loader that does not shuffle, "
                f"got {list(batches)}."
            )
        self._chosen = batches
        return self

    @abstractmethod
    def take(self, index: Tensor) -> Batch:
        """Copy some images to the CPU, whatever is being iterated over.

        Args:
            index: Positions in `labels`, shape (M,), int64, at least one.

        Returns:
            The images, uint8, with their labels.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yield the next `len(self)` batches of the stream, or all batches in order."""

    def state_dict(self) -> dict[str, int]:
        """Report the place in the stream.

        Returns:
            `{"batches": n}`, the number of batches drawn so far; always 0 without `shuffle`.
        """
        return self.order.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go to a place in the stream; without `shuffle` there is nowhere to go.

        Args:
            state_dict: What `state_dict` of a loader with the same seed and sizes has reported.
        """
        if self.shuffle:
            self.order.load_state_dict(state_dict)

    def _span(self, batch: int) -> slice:
        return slice(batch * self.batch_size, (batch + 1) * self.batch_size)


@final
class ResidentLoader(Loader):
    """Batches of a small image set, cut on the device that holds the whole of it.

    A set such as MNIST (47 MB) fits beside the model, so that a batch costs one `index_select` and
    no worker process, no copy between devices and no Python per image.

    Args:
        images: All images, shape (N, C, H, W), uint8. Kept as they are where they already lie on
            `device`, copied there once otherwise.
        labels: Their classes, shape (N,), int64.
        batch_size: Images in a batch of one process, at least 1.
        shuffle: Whether to draw the endless shuffled stream.
        seed: Seed of the stream.
        device: Where the images are to live.
        share: Rank of this process, and number of processes that share the set.

    Raises:
        ValueError: As in `Loader`, or if the labels are not one an image.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        device: torch.device | str = "cpu",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Check the sizes and take the images to the device."""
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images need as many labels, got {len(labels)}.")
        super().__init__(len(images), batch_size, shuffle, seed, *share, device)
        self.images = images[self._share].to(device).contiguous()
        self.labels = labels[self._share].to(device).contiguous()

    def take(self, index: Tensor) -> Batch:  # noqa: D102
        here = index.to(self.images.device)
        return Batch(self.images[here].cpu(), self.labels[here].cpu())

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches on the loader's device, images uint8."""
        images, labels = self.images, self.labels
        if self.shuffle:
            for index in self.order:
                yield Batch(images.index_select(0, index), labels.index_select(0, index))
        else:
            for span in map(self._span, self._chosen):
                yield Batch(images[span], labels[span])


@final
class FileLoader(Loader):
    """Batches read by one worker process for each core.

    Args:
        files: The set.
        batch_size: Images in a batch of one process, at least 1.
        shuffle: Whether to draw the endless shuffled stream.
        seed: Seed of the stream.
        share: Rank of this process, and number of processes that share the set.

    Raises:
        ValueError: As in `Loader`.
    """

    def __init__(
        self,
        files: ImageFiles,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(len(files), batch_size, shuffle, seed, *share)
        self.files = files
        self.labels = files.labels[self._share]
        self._positions = torch.arange(len(files))[self._share]

    def take(self, index: Tensor) -> Batch:  # noqa: D102
        read = list(self._read(self._positions[index].split(self.batch_size)))
        return Batch(*(torch.cat(parts) for parts in zip(*read, strict=True)))

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches on the CPU, images uint8."""
        if not self.shuffle:
            yield from self._read([self._positions[self._span(n)] for n in self._chosen])
            return
        start = self.order.batches
        for batch in self._read([self.order.batch(start + i) for i in range(len(self.order))]):
            # Counted as it is handed out, not as a worker reads it: that is what a resumed run
            # has seen.
            self.order.batches += 1
            yield batch

    def _read(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        cuda = torch.cuda.is_available()
        yield from DataLoader(
            self.files,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=min(len(batches), len(os.sched_getaffinity(0))),
            pin_memory=cuda,
            # Forked workers may inherit a locked thread pool of the training.
            multiprocessing_context="forkserver" if cuda else None,
            worker_init_fn=_leave_signals_to_the_training,
            # Or it would seed the workers from the global generator, and training would notice.
            generator=seeded_generator("seeds of the workers"),
        )


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
    share = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
    if isinstance(images, ImageFiles):
        return FileLoader(images, batch_size, shuffle=shuffle, seed=seed, share=share)
    return ResidentLoader(
        images.images,
        images.labels,
        batch_size,
        shuffle=shuffle,
        seed=seed,
        device="cpu" if trainer is None else trainer.strategy.root_device,
        share=share,
    )


@atexit.register
def _end_workers() -> None:
    # Of what something still holds when Python ends, such as an exception's traceback: they leave
    # SIGTERM to the training, and `multiprocessing` would send one and wait for ever.
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise that one was killed
    for worker in workers:
        worker.kill()


def _leave_signals_to_the_training(worker: int) -> None:
    # A signal to the whole group of processes would end the workers at once, and with them the step
    # that is to be saved. They go when their parent has no more work for them, or is gone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
