"""A loader whose images live on the device, and whose order can be resumed to the batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from dvae.data.batch import Batch
from dvae.data.order import EndlessOrder, chosen_batches

__all__ = ["ResidentLoader"]


@final
class ResidentLoader:
    r"""Batches of a small image set, cut on the device that holds the whole of it.

    A set such as MNIST (47 MB) fits beside the model, so that a batch costs one `index_select` and
    no worker process, no copy between devices and no Python per image.

    With `shuffle`, the loader is a window on an endless stream, `EndlessOrder`: `iter()` goes on
    where the stream stands, also after an epoch that was cut short.

    Without `shuffle`, every image comes once, in order, the last batch being smaller where it must,
    and there is no state.

    Args:
        images: All images, shape (N, C, H, W), uint8. Kept as they are where they already lie on
            `device`, copied there once otherwise.
        labels: Their classes, shape (N,), int64.
        batch_size: Images in a batch of one rank, at least 1. A shuffled set smaller than one batch
            is one smaller batch.
        shuffle: Whether to draw the endless shuffled stream (training) or to go through once in
            order (evaluation).
        seed: Seed of the stream; unused without `shuffle`.
        device: Where the images are to live.
        rank: Number of this process, in 0..world_size - 1.
        world_size: Number of processes that share the set, at least 1.

    Raises:
        ValueError: If `batch_size` is below 1, the set is empty or smaller than `world_size`, the
            labels are not one an image, or `rank` is out of range.
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
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Check the sizes and take the images to the device."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1} (world_size - 1), got {rank}.")
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images need as many labels, got {len(labels)}.")
        if len(images) < world_size:
            raise ValueError(
                f"A loader for {world_size} process(es) needs at least as many images, "
                f"got {len(images)}."
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.order = EndlessOrder(len(images), batch_size, seed, rank, world_size, device)
        if not shuffle:
            images, labels = images[rank::world_size], labels[rank::world_size]
        self.images = images.to(device).contiguous()
        self.labels = labels.to(device).contiguous()
        self._chosen: Sequence[int] = range(-(-len(self.images) // batch_size))

    def __len__(self) -> int:
        """Count the batches of an epoch, on this rank."""
        return len(self.order) if self.shuffle else len(self._chosen)

    def only(self, batches: Sequence[int]) -> "ResidentLoader":
        """Go through some of the batches only, each as it is when all are; without `shuffle`.

        Args:
            batches: Their numbers, ascending.

        Returns:
            The loader itself.

        Raises:
            ValueError: If the loader shuffles, or has no such batch.
        """
        self._chosen = chosen_batches(self, batches)
        return self

    def take(self, index: Tensor) -> Batch:
        """Copy some images to the CPU, whatever is being iterated over.

        Args:
            index: Positions in `images` and `labels`, shape (M,), int64.

        Returns:
            The images, uint8, with their labels.
        """
        here = index.to(self.images.device)
        return Batch(self.images[here].cpu(), self.labels[here].cpu())

    def __iter__(self) -> Iterator[Batch]:
        """Yield the next `len(self)` batches of the stream, or all batches in order.

        Yields:
            Batches on the loader's device, images uint8.
        """
        return self._stream() if self.shuffle else self._in_order()

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

    def _stream(self) -> Iterator[Batch]:
        images, labels = self.images, self.labels
        for index in self.order:
            yield Batch(images.index_select(0, index), labels.index_select(0, index))

    def _in_order(self) -> Iterator[Batch]:
        images, labels = self.images, self.labels
        for batch in self._chosen:
            start, stop = batch * self.batch_size, (batch + 1) * self.batch_size
            yield Batch(images[start:stop], labels[start:stop])
