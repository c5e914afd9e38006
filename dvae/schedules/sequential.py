"""One schedule after another."""

from collections.abc import Sequence
from dataclasses import dataclass

from dvae.schedules.base import Schedule

__all__ = ["Sequential"]


@dataclass(frozen=True)
class Sequential(Schedule):
    """One schedule after another, each from its own step 0; the last one holds.

    A part whose length is left open gets what the parts before it have left of the run. A part may
    itself be a Sequential: it is the same as its own parts in its place.

    Args:
        parts: The schedules, in order. All but the last need a length.

    Raises:
        ValueError: There is no part, or one before another is open in length.
    """

    parts: Sequence[Schedule]

    def __post_init__(self) -> None:
        """Check the parts."""
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise ValueError("Sequential.parts must hold at least one schedule; got none")
        for part in self.parts[:-1]:
            if part.length(1) is None:
                raise ValueError(
                    f"{type(part).__name__} inside Sequential.parts has no length of its own, so "
                    "the parts after it would never come: give it one (only the last may be open)"
                )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        return self.after(0, step, run_steps)

    def after(self, passed: int, step: int, run_steps: int | None = None) -> float:
        """Return the value as a part of another; see `Schedule.after`."""
        *others, last = self.parts
        for part in others:
            # A fraction means a fraction of the run, also for a part in the middle.
            length = part.length(run_steps)
            assert length is not None
            if step < length:
                return part(step, run_steps)
            passed, step = passed + length, step - length
        return last.after(passed, step, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the extremes of all the parts."""
        all_bounds = [part.bounds() for part in self.parts]
        return (min(low for low, _ in all_bounds), max(high for _, high in all_bounds))

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps of all the parts together; open where the last part is."""
        total = 0
        for part in self.parts:
            length = part.length(run_steps)
            if length is None:
                return None
            total += length
        return total
