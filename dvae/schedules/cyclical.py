"""Rise and hold, again and again."""

from dataclasses import dataclass

from dvae.scalars import check_count
from dvae.schedules.base import Way, check_numbers

__all__ = ["Cyclical"]


@dataclass(frozen=True)
class Cyclical(Way):
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
        super().__post_init__()
        check_count("Cyclical.cycles", self.cycles, 1)
        check_numbers(self, ratio=self.ratio)
        if not 0 < self.ratio <= 1:
            raise ValueError(f"Cyclical.ratio must be in (0, 1]; got {self.ratio:g}")

    def _at(self, step: int, steps: int) -> float:
        within = step * self.cycles / steps % 1.0
        return self.start + (self.end - self.start) * min(within / self.ratio, 1.0)
