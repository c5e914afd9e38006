"""A value that does not move."""

from dataclasses import dataclass

from dvae.schedules.base import Schedule, check_numbers

__all__ = ["Constant"]


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: The value.
    """

    value: float

    def __post_init__(self) -> None:
        check_numbers(self, value=self.value)

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value."""
        return self.value

    def bounds(self) -> tuple[float, float]:
        """Return the value twice."""
        return (self.value, self.value)
