"""A loader whose images live on the device, and whose order can be resumed to the batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from dvae.data.batch import Batch
from dvae.data.seeding import seeded_generator

__all__ = ["ResidentLoader"]


@final
class ResidentLoader:
    r"""Batches of a small image set, cut on the device that holds the whole of it.

    A set such as MNIST (47 MB) fits beside the model, so that a batch costs one `index_select` and
    no worker process, no copy between devices and no Python per image.

    With `shuffle`, the loader is a window on an endless stream: batch \(n\) is a pure function of
    the seed and \(n\). Epoch \(\lfloor n / \text{len} \rfloor\) has its own permutation, of which
    the ranks take disjoint strided parts; the images that do not fill a batch are left out, others
    in each epoch. `iter()` goes on where the stream stands, also after an epoch that was cut short,
    and the place is all there is to save.

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
        seed: Which stream; unused without `shuffle`.
        device: Where the images are to live.
        rank: Which of the processes this is, in 0..world_size - 1.
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
        self.seed = seed
        self._share = slice(rank, None, world_size)
        if shuffle:
            # Every rank draws the same number of batches, or a gradient all-reduce would wait.
            per_rank = len(images) // world_size
            self._length = max(1, per_rank // batch_size)
            self._per_epoch = min(per_rank, self._length * batch_size)
        else:
            images, labels = images[self._share], labels[self._share]
            self._length = -(-len(images) // batch_size)
        self.images = images.to(device).contiguous()
        self.labels = labels.to(device).contiguous()
        self._chosen: Sequence[int] = range(self._length)
        self._batches = 0
        self._epoch = -1
        self._indices: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """Count the batches of an epoch, on this rank."""
        return len(self._chosen)

    def only(self, batches: Sequence[int]) -> "ResidentLoader":
        """Go through some of the batches only, each as it is when all are; without `shuffle`.

        Args:
            batches: Their numbers, ascending.

        Returns:
            The loader itself.

        Raises:
            ValueError: If the loader shuffles, or has no such batch.
        """
        if self.shuffle or not all(0 <= batch < self._length for batch in batches):
            raise ValueError(
                f"batches must be among 0..{self._length - 1} of a loader that does not shuffle, "
                f"got {list(batches)}."
            )
        self._chosen = batches
        return self

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
        return {"batches": self._batches}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go to a place in the stream; without `shuffle` there is nowhere to go.

        Args:
            state_dict: What `state_dict` of a loader with the same seed and sizes has reported.
        """
        if self.shuffle:
            self._batches = state_dict["batches"]

    def _stream(self) -> Iterator[Batch]:
        images, labels = self.images, self.labels
        for _ in range(self._length):
            epoch, position = divmod(self._batches, self._length)
            if epoch != self._epoch:
                self._shuffle_for(epoch)
            index = self._indices[position]
            # Counted before the yield: a checkpoint is taken while this batch is being worked on,
            # and the run that resumes from it must begin with the next.
            self._batches += 1
            yield Batch(images.index_select(0, index), labels.index_select(0, index))

    def _in_order(self) -> Iterator[Batch]:
        images, labels = self.images, self.labels
        for batch in self._chosen:
            start, stop = batch * self.batch_size, (batch + 1) * self.batch_size
            yield Batch(images[start:stop], labels[start:stop])

    def _shuffle_for(self, epoch: int) -> None:
        # Drawn on the CPU whatever the device, so that the order is the same on all of them.
        generator = seeded_generator("order of the training images", self.seed, epoch)
        order = torch.randperm(len(self.images), generator=generator)
        share = order[self._share][: self._per_epoch].contiguous().to(self.images.device)
        self._indices = torch.split(share, self.batch_size)
        self._epoch = epoch
