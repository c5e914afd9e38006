"""A schedule that starts elsewhere, and ends as before."""

from dataclasses import dataclass

from dvae.schedules.base import FOREVER, Schedule, check_numbers

__all__ = ["Rescaled"]


@dataclass(frozen=True)
class Rescaled(Schedule):
    r"""Another schedule with its values rescaled, so that it starts elsewhere and ends as before.

    With s the schedule, e its end and v the new start, :math:`e + (v - e) (s(t) - e) / (s(0) - e)`.

    Args:
        schedule: The schedule s, which must end elsewhere than it starts.
        start: The new value v at step 0.
    """

    schedule: Schedule
    start: float

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"Rescaled.schedule must be a schedule; got {self.schedule!r}")
        check_numbers(self, start=self.start)
        first, end = self._ends()
        if first == end:
            raise ValueError(
                f"{type(self.schedule).__name__} ends where it starts ({end:g}), so it cannot be "
                "rescaled to another start: give a schedule that moves"
            )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        return self._rescale(self.schedule(step, run_steps))

    def after(self, passed: int, step: int, run_steps: int | None = None) -> float:
        """Return the value as a part of another; see `Schedule.after`."""
        return self._rescale(self.schedule.after(passed, step, run_steps))

    def bounds(self) -> tuple[float, float]:
        """Return the rescaled extremes of the schedule."""
        low, high = (self._rescale(value) for value in self.schedule.bounds())
        return (min(low, high), max(low, high))

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps of the schedule, or ``None`` where its length is open."""
        return self.schedule.length(run_steps)

    def _rescale(self, value: float) -> float:
        first, end = self._ends()
        part = (value - end) / (first - end)
        # So written, both ends are met exactly.
        return end * (1.0 - part) + self.start * part

    def _ends(self) -> tuple[float, float]:
        # A schedule starts and ends at the same values whatever the length of the run.
        return self.schedule(0, 1), self.schedule(FOREVER, 1)
