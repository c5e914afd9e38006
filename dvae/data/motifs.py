"""Signals whose structure is known: a few shapes, one after another by a rule, with noise."""

import math

import torch
from torch import Tensor

from dvae.data.events import EventDataModule
from dvae.data.images import Images, Split
from dvae.data.seeding import seeded_generator

__all__ = ["Motifs"]


class Motifs(EventDataModule):
    r"""Signals of one channel, each a series of shapes of 16 steps, to see what codes find.

    There are six shapes, `shapes`. The first is any of them; shape i is followed by one of i + 1 to
    i + 4 (modulo 6), with equal probability. So a series of n shapes has
    :math:`\log_2 6 + 2 (n - 1)` bits: the least that a prior can need for codes that say the shapes
    and nothing else. Each step has Gaussian noise.

    Args:
        length: Shapes in a signal, at least 1.
        count: Training signals, at least 2; there are a fifth as many for the test, at least one.
        noise: Standard deviation of the noise, at least 0.
        batch_size: Training signals in a batch of one process, at least 1.
        val_size: Signals that validation takes out of the training ones, at least 0; by default
            one in ten, at most 500. 0 does not validate.
        seed: Seed of the order of the training signals. No part in the signals themselves.

    Raises:
        ValueError: A value out of range.
    """

    name = "motifs"
    labelled = False
    num_classes = 1

    def __init__(
        self,
        length: int = 8,
        count: int = 4000,
        noise: float = 0.1,
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, val_size, seed)
        for name, value, least in (("length", length, 1), ("count", count, 2), ("noise", noise, 0)):
            if not value >= least:
                raise ValueError(f"data.{name} must be >= {least}; got {value}")
        self.length, self.count_train, self.noise = length, count, noise

    @property
    def event_shape(self) -> tuple[int, ...]:
        """One channel and 16 steps a shape."""
        return (1, 16 * self.length)

    @staticmethod
    def shapes() -> Tensor:
        """Return the six shapes, ``(6, 16)``: rest, bump, dip, wave, ramp and ripple."""
        t = (torch.arange(16) + 0.5) / 16
        bump = (math.pi * t).sin()
        wave, ripple = (2 * math.pi * t).sin(), (4 * math.pi * t).cos()
        return torch.stack([torch.zeros(16), bump, -bump, wave, 2 * t - 1, ripple])

    def truth(self, split: Split) -> Tensor:
        """Return the shapes in each signal of a split, integers in [0, 6), ``(N, length)``.

        Args:
            split: `train` or `test`.
        """
        count = self.count_train if split == "train" else max(1, self.count_train // 5)
        noise = seeded_generator(f"motifs: order, {split}")
        first = torch.randint(6, (count, 1), generator=noise)
        steps = torch.randint(1, 5, (count, self.length - 1), generator=noise)
        return torch.cat([first, steps], 1).cumsum(1) % 6

    def load(self, split: Split) -> Images:
        """Make the signals of a split, the same each time.

        Args:
            split: `train` or `test`.
        """
        order = self.truth(split)
        noise = seeded_generator(f"motifs: noise, {split}")
        clean = self.shapes()[order].view(len(order), 1, -1)
        signals = clean + self.noise * torch.randn(clean.shape, generator=noise)
        return Images(signals, torch.zeros(len(order), dtype=torch.int64))
