"""What all kinds of fuzzing share: what a failure is, counting them, and a limit of time."""

import collections
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

__all__ = ["Counts", "Failure", "TooLong", "limit", "tally"]

Counts = collections.Counter[str]


class Failure(Exception):
    """A result that is wrong, or an error of the wrong kind."""


class TooLong(BaseException):
    """Not caught by what is tried."""


def tally(seeds: Sequence[int], attempt: Callable[[int], str], show: int) -> Counts:
    """Try many cases, and print those that fail.

    Args:
        seeds: Which.
        attempt: Returns what became of one, or raises `Failure`.
        show: Failures printed at most.

    Returns:
        How many of each kind.
    """
    counts: Counts = collections.Counter()
    for number in seeds:
        try:
            counts[attempt(number)] += 1
        except Failure as error:
            counts["failure"] += 1
            if counts["failure"] <= show:
                print(str(error)[:600], flush=True)
    return counts


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in what takes longer; in the main thread only.

    Args:
        seconds: At most.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
