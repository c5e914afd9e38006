"""Rise and hold, again and again."""

from dataclasses import dataclass

from dvae.schedules.base import (
    Schedule,
    check_count,
    check_numbers,
    check_steps,
    length_of,
    resolve_steps,
)

__all__ = ["Cyclical"]


@dataclass(frozen=True)
class Cyclical(Schedule):
    """Rise from ``start`` to ``end`` and hold, again in each of several cycles.

    Args:
        start: The value at the start of a cycle.
        end: The value that a cycle holds after its rise.
        cycles: Number of cycles M.
        ratio: Fraction R of a cycle that rises, in (0, 1].
        steps: Length of all cycles: steps, fraction of the run, or ``None`` for all of it.

    References:
        H. Fu et al., 2019, arXiv 1903.10145, eq. 6 to 8 (M = 4, R = 0.5, for the KL weight).
    """

    start: float = 0.0
    end: float = 1.0
    cycles: int = 4
    ratio: float = 0.5
    steps: int | float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_numbers(self, start=self.start, end=self.end)
        check_steps(self.steps, "Cyclical")
        check_count("Cyclical.cycles", self.cycles)
        check_numbers(self, ratio=self.ratio)
        if not 0 < self.ratio <= 1:
            raise ValueError(f"Cyclical.ratio must be in (0, 1]; got {self.ratio:g}")
        if self.start == self.end:
            raise ValueError(
                f"Cyclical ends where it starts ({self.start:g}), so it never moves: "
                "give another end, or use Constant"
            )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        steps = resolve_steps(self.steps, run_steps, type(self).__name__)
        if step >= steps:
            return self.end
        within = max(step, 0) * self.cycles / steps % 1.0
        return self.start + (self.end - self.start) * min(within / self.ratio, 1.0)

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps of all cycles; see `Schedule.length`."""
        return length_of(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the higher end."""
        return (min(self.start, self.end), max(self.start, self.end))
