"""A text as sequences of letters: a file, or the documentation that comes with Python."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dvae.data.events import EventDataModule, every_tenth
from dvae.data.images import Images, Split

__all__ = ["Text"]


class Text(EventDataModule):
    """Pieces of a text, in small letters a to z and the space, which stands for all else.

    Pieces do not overlap, and every tenth is for the test. An event is one piece, integers in
    [0, 27): 0 is the space, 1 is a.

    Args:
        file: Path of a text in UTF-8; by default the pages of Python's documentation that its own
            ``help()`` shows, of the installed version.
        length: Letters in a piece, at least 1.
        batch_size: Training pieces in a batch of one process, at least 1.
        val_size: Pieces that validation takes out of the training ones, at least 0; by default one
            in ten, at most 500. 0 does not validate.
        seed: Seed of the order of the training pieces. No part in what is evaluated.

    Raises:
        ValueError: A value out of range.
    """

    alphabet = " abcdefghijklmnopqrstuvwxyz"
    """The letters, each at the place of its number."""

    labelled = False
    num_classes = 1

    def __init__(
        self,
        file: str | None = None,
        length: int = 32,
        batch_size: int = 64,
        val_size: int | None = None,
        seed: int = 0,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        self.name = "Python's documentation" if file is None else Path(file).stem
        super().__init__(batch_size, val_size, seed)
        if length < 1:
            raise ValueError(f"data.length must be >= 1; got {length}")
        self.file, self.length = file, length

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Letters in a piece, ``(T,)``."""
        return (self.length,)

    def load(self, split: Split) -> Images:
        """Cut the text into pieces.

        Args:
            split: `train` or `test`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is too short for two pieces.
        """
        numbers = self._numbers
        count = len(numbers) // self.length
        pieces = numbers[: count * self.length].view(count, self.length)
        places = every_tenth(count, split)
        return Images(pieces[places], torch.zeros(len(places), dtype=torch.int64))

    def words(self, events: Tensor) -> list[str]:
        """Write events as text.

        Args:
            events: Integers in [0, 27), ``(N, ...)``.

        Returns:
            N strings.
        """
        return ["".join(self.alphabet[n] for n in event.flatten().tolist()) for event in events]

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """Write texts of one length as events, the inverse of `words`.

        Args:
            texts: N strings, in any case and with any characters.

        Returns:
            Integers ``(N, T)``.
        """
        return torch.stack([_numbers(re.sub("[^a-z]", " ", text.lower())) for text in texts])

    @cached_property
    def _numbers(self) -> Tensor:
        if self.file is None:
            from pydoc_data.topics import topics  # half a megabyte, for whoever wants it

            text = "\n".join(topics[name] for name in sorted(topics))
        else:
            text = Path(self.file).expanduser().read_text(encoding="utf-8")
        # What is left out may be of any length: one space says that there was something.
        return _numbers(" ".join(re.sub("[^a-z]", " ", text.lower()).split()))


def _numbers(text: str) -> Tensor:
    letters = torch.tensor(list(text.encode("ascii")), dtype=torch.int64)
    return torch.where(letters == ord(" "), 0, letters - ord("a") + 1)
