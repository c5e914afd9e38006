"""A value that does not move."""

from dataclasses import dataclass

from dvae.schedules.base import Schedule, check_numbers, check_steps, length_of

__all__ = ["Constant"]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: The value.
        steps: Length as a part of a `Sequential`, before another begins: steps, or fraction of the
            run; ``None`` for a part that holds to the end.
    """

    value: float
    steps: int | float | None = None

    def __post_init__(self) -> None:
        check_numbers(self, value=self.value)
        check_steps(self.steps, "Constant")

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value."""
        return self.value

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps; see `Schedule.length`."""
        return length_of(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the value twice."""
        return (self.value, self.value)
