"""From one value to another in a straight line, half a cosine, or by a constant ratio."""

import math
from abc import abstractmethod
from dataclasses import dataclass

from dvae.schedules.base import Schedule, check_numbers, check_steps, length_of, resolve_steps

__all__ = ["Cosine", "Exponential", "Linear"]


@dataclass(frozen=True)
class Ramp(Schedule):
    """From one value to another, then hold."""

    start: float
    end: float
    steps: int | float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_numbers(self, start=self.start, end=self.end)
        check_steps(self.steps, name)
        if self.start == self.end:
            raise ValueError(
                f"{name} ends where it starts ({self.start:g}), so it never moves: "
                "give another end, or use Constant"
            )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        steps = resolve_steps(self.steps, run_steps, type(self).__name__)
        if step >= steps:
            return self.end
        return self._at(max(step, 0) / steps)

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps; see `Schedule.length`."""
        return length_of(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the higher end."""
        return (min(self.start, self.end), max(self.start, self.end))

    @abstractmethod
    def _at(self, progress: float) -> float:
        """Return the value at a progress in [0, 1)."""


@dataclass(frozen=True)
class Linear(Ramp):
    """A straight line from ``start`` to ``end``, then hold.

    Args:
        start: The value at step 0.
        end: The value after that many steps, and from then on.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.
    """

    def _at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class Cosine(Ramp):
    r"""Half a cosine, :math:`e + \frac{s - e}{2} (1 + \cos \pi t)`, then hold.

    Args:
        start: The value s at step 0.
        end: The value e after that many steps, and from then on.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.

    References:
        I. Loshchilov, F. Hutter, 2017, arXiv 1608.03983, eq. 5; for a temperature, A. Ramesh et
        al., 2021, arXiv 2102.12092, appendix A.2.
    """

    def _at(self, progress: float) -> float:
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Exponential(Ramp):
    r"""A constant ratio a step, :math:`s (e/s)^t`, then hold.

    Args:
        start: The value s at step 0, above 0.
        end: The value e after that many steps, and from then on, above 0.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.
    """

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.start <= 0 or self.end <= 0:
            raise ValueError(
                "Exponential.start and .end must be > 0, since it multiplies; "
                f"got {self.start:g} and {self.end:g}"
            )

    def _at(self, progress: float) -> float:
        return float(self.start * (self.end / self.start) ** progress)
