"""What takes long says what it is at, where standard error is no terminal: nohup, SLURM, a pipe."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["EVERY", "Doing", "doing", "in_words", "spoke"]

EVERY = 25.0
"""Seconds after which a line is due: half a minute is the promise."""

T = TypeVar("T")

# As launchers number the processes of a run, of which the first speaks.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


class Doing:
    """Something that takes long, in words.

    Args:
        what: What it is, as in ``loading a model``.
    """

    def __init__(self, what: str) -> None:
        self._since = time.monotonic()
        self.now(what)

    def now(self, what: str, *values: object) -> None:
        """Say that something else has begun.

        Args:
            what: What it is; a pattern for the values, as of `logging`.
            values: Values that are filled in where the line is said.
        """
        self._now = what, values

    def count(self, found: Iterable[T], called: str) -> Iterator[T]:
        """Go through things one by one, and say how many were found so far.

        Args:
            found: The things.
            called: What several are called.

        Yields:
            Each of them.
        """
        what, _ = self._now
        for number, one in enumerate(found, 1):
            self.now("%s, %d %s", what, number, called)
            yield one

    def __str__(self) -> str:
        """Say what it is, and for how long it has taken since the beginning."""
        what, values = self._now
        seconds = time.monotonic() - self._since
        return f"{what % values if values else what}, {in_words(seconds)} so far"


class _Voice:
    """A thread that says the innermost of what is done, whenever nothing was said for long."""

    def __init__(self) -> None:
        self.doings: list[Doing] = []
        self.last = 0.0
        self._ended = threading.Event()

    def begin(self) -> None:
        self.last, self._ended = time.monotonic(), threading.Event()
        threading.Thread(target=self._run, args=(self._ended,), daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(max(0.0, self.last + EVERY - time.monotonic())):
            if time.monotonic() - self.last < EVERY:
                continue
            self.last = time.monotonic()
            is_first = all(os.environ.get(rank, "0") == "0" for rank in _RANKS)
            if is_first and not sys.stderr.isatty():
                for what in self.doings[-1:]:
                    print(what, file=sys.stderr, flush=True)


_voice = _Voice()


@contextmanager
def doing(what: str) -> Iterator[Doing]:
    """Name what a block, or as a decorator a function, does, for lines while it takes long.

    Args:
        what: What it does; see `Doing`.

    Yields:
        What is done, which may become something else on the way.

    Example:
        >>> with doing("drawing") as work:
        ...     for page in range(3):
        ...         work.now("drawing page %d of 3", page + 1)
    """
    found = Doing(what)
    _voice.doings.append(found)
    if len(_voice.doings) == 1:
        _voice.begin()
    try:
        yield found
    finally:
        _voice.doings.remove(found)
        if not _voice.doings:
            _voice.end()


def spoke() -> None:
    """Say that something else has just said a line, so that none is due for a while."""
    _voice.last = time.monotonic()


def in_words(seconds: float) -> str:
    """Say a length of time as people do.

    Args:
        seconds: The length.

    Example:
        >>> [in_words(seconds) for seconds in (40, 600, 9000)]
        ['40 s', '10 min', '2.5 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
