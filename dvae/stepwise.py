"""What moves in training without the optimizer, and with its steps: averages, counts."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stepwise"]


class Stepwise:
    """A part that moves by what it sees in training.

    Attributes:
        accumulates: Whether passes in training add up until `step`; see `accumulating`.
    """

    accumulates: bool = False

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Let passes in training add up until `step`, as gradients do until the optimizer's.

        Elsewhere each pass in training is a step.
        """
        before, self.accumulates = self.accumulates, True
        try:
            yield
        finally:
            self.accumulates = before

    def step(self) -> None:
        """Take a step with what moves or counts without the optimizer, by the passes before it.

        All processes come here in the same step. There is nothing of this kind by default.
        """

    def skip_step(self) -> None:
        """Forget the passes since the last step."""
