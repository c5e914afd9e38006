"""The order in which training visits its images: endless, shuffled, and resumed to the batch."""

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor

from dvae.data.seeding import seeded_generator

__all__ = ["EndlessOrder"]


@final
class EndlessOrder:
    r"""An endless stream of batches of positions in a set, of which each rank takes its share.

    Batch \(n\) is a pure function of the seed and \(n\). Epoch \(\lfloor n / \text{len} \rfloor\)
    has its own permutation, of which the ranks take disjoint strided parts; the images that do not
    fill a batch are left out, others in each epoch. Iterating goes on where the stream stands, also
    after an epoch that was cut short, and the place is all there is to save.

    Args:
        count: Images in the set, at least `world_size`.
        batch_size: Images in a batch of one rank, at least 1. A set smaller than one batch is one
            smaller batch.
        seed: Seed of the stream.
        rank: Number of this process, in 0..world_size - 1.
        world_size: Number of processes that share the set, at least 1.
        device: Where the positions are wanted; they are drawn on the CPU, so that the order is the
            same on all devices, and moved once an epoch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.batches = 0
        self._share = slice(rank, None, world_size)
        # Every rank draws the same number of batches, or a gradient all-reduce would wait.
        per_rank = count // world_size
        self._length = max(1, per_rank // batch_size)
        self._per_epoch = min(per_rank, self._length * batch_size)
        self._epoch = -1
        self._indices: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """Count the batches of an epoch, on one rank."""
        return self._length

    def __iter__(self) -> Iterator[Tensor]:
        """Yield positions ``(batch_size,)``, int64, for the next `len(self)` batches."""
        for _ in range(self._length):
            index = self.batch(self.batches)
            # Counted before the yield: a checkpoint is taken while this batch is being worked on,
            # and the run that resumes from it must begin with the next.
            self.batches += 1
            yield index

    def batch(self, number: int) -> Tensor:
        """Return the positions of one batch of the stream.

        Args:
            number: Which one, at least 0.
        """
        epoch, position = divmod(number, self._length)
        if epoch != self._epoch:
            generator = seeded_generator("order of the training images", self.seed, epoch)
            order = torch.randperm(self.count, generator=generator)
            share = order[self._share][: self._per_epoch].to(self.device)
            self._indices = torch.split(share, self.batch_size)
            self._epoch = epoch
        return self._indices[position]

    def state_dict(self) -> dict[str, int]:
        """Report the place in the stream: the number of batches drawn so far."""
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go to a place that an order with the same seed and sizes has reported."""
        self.batches = state_dict["batches"]
