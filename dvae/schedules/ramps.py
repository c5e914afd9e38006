"""From one value to another in a straight line, half a cosine, or by a constant ratio."""

import math
from dataclasses import dataclass

from dvae.schedules.base import Way

__all__ = ["Cosine", "Exponential", "Linear"]


@dataclass(frozen=True)
class Ramp(Way):
    """From one value to another, then hold."""

    start: float
    end: float
    steps: int | float | None = None


@dataclass(frozen=True)
class Linear(Ramp):
    """A straight line from ``start`` to ``end``, then hold.

    Args:
        start: The value at step 0.
        end: The value after that many steps, and from then on.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.
    """

    def _at(self, step: int, steps: int) -> float:
        return self.start + (self.end - self.start) * (step / steps)


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

    def _at(self, step: int, steps: int) -> float:
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * (step / steps)))


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

    def _at(self, step: int, steps: int) -> float:
        return float(self.start * (self.end / self.start) ** (step / steps))
