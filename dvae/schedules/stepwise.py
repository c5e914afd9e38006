"""Exponential decay in steps, as the first Gumbel-softmax was annealed."""

import math
from dataclasses import dataclass

from dvae.scalars import check_count
from dvae.schedules.base import Schedule, check_numbers

__all__ = ["Stepwise"]


@dataclass(frozen=True)
class Stepwise(Schedule):
    r"""Exponential decay to a floor, held between updates: :math:`\max(e, s\, e^{-r t})`.

    Args:
        start: The value at step 0, above 0.
        end: The floor, below the start.
        rate: The decay rate r a step, above 0.
        every: Steps between updates; t is the last multiple of it.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, section 4.1: r in {1e-5, 1e-4}, updated
        every 500 or 1000 steps, from 1 to a floor of 0.5.
    """

    start: float = 1.0
    end: float = 0.5
    rate: float = 1e-4
    every: int = 1000

    def __post_init__(self) -> None:
        """Check the values."""
        check_numbers(self, start=self.start, end=self.end, rate=self.rate)
        for key, value in (("start", self.start), ("rate", self.rate)):
            if value <= 0:
                raise ValueError(f"Stepwise.{key} must be > 0; got {value:g}")
        check_count("Stepwise.every", self.every, 1)
        if self.end >= self.start:
            raise ValueError(
                f"Stepwise decays from start to a lower end; got start {self.start:g} and "
                f"end {self.end:g}: give a lower end, or use Constant"
            )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        updated = max(step, 0) // self.every * self.every
        return max(self.end, self.start * math.exp(-self.rate * updated))

    def bounds(self) -> tuple[float, float]:
        """Return the floor and the start."""
        return (self.end, self.start)

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps until the floor is reached; open where it never is."""
        if self.end <= 0:
            return None
        updates = (math.log(self.start) - math.log(self.end)) / self.rate / self.every
        return math.ceil(updates) * self.every if math.isfinite(updates) else None
