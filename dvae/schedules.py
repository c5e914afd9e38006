r"""Schedules: a value as a pure function of the training step, hence right on resume.

The length of a schedule is a number of steps (``10000``), a fraction of the run (``0.1``), or
``None`` for all that is left of the run, whose length is known when training starts.

A step is taken with the value of the steps before it: the first has the start, and after n steps
the next has the end. The last of the n is therefore still a part of 1/n away from the end, so that
a learning rate that falls to 0 wastes no step.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Constant",
    "Cosine",
    "Cyclical",
    "Exponential",
    "Linear",
    "Rescaled",
    "Schedule",
    "Sequential",
    "Stepwise",
]

# A step after the last of any schedule.
_FOREVER = 2**62


class Schedule(ABC):
    """A value for each training step.

    Subclasses are frozen dataclasses: what they return depends on the step alone and, where a
    length is a fraction or left open, on the length of the run.
    """

    @abstractmethod
    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step.

        Args:
            step: Optimizer steps taken so far, from 0.
            run_steps: Length of the run in optimizer steps, if it has one.

        Returns:
            The value.

        Raises:
            ValueError: The schedule needs the length of the run, and the run has none.
        """

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest value that the schedule can take."""

    def length(self, run_steps: int | None = None) -> int | None:
        """Return how many steps it takes, after which the value no longer moves.

        Args:
            run_steps: Length of the run in optimizer steps, if it has one.

        Returns:
            Steps, or ``None`` where that is open, as it is by default: it takes what is left of
            the run. Which of both does not depend on the run.

        Raises:
            ValueError: The length is a fraction of the run, and the run has none.
        """
        return None

    def after(self, passed: int, step: int, run_steps: int | None = None) -> float:
        """Return the value where it is one of the parts of another schedule.

        Args:
            passed: Steps of the run before its own step 0.
            step: Its own step, from 0.
            run_steps: Length of the run in optimizer steps, if it has one.
        """
        if run_steps is not None and self.length(run_steps) is None:
            run_steps = max(run_steps - passed, 1)
        return self(step, run_steps)

    def check_run(self, run_steps: int | None) -> None:
        """Refuse a run without an end where any part follows its length, before it starts.

        Args:
            run_steps: Length of the run in optimizer steps, if it has one.

        Raises:
            ValueError: The run has none.
        """
        for step in (0, _FOREVER):
            self(step, run_steps)


def resolve_steps(steps: int | float | None, run_steps: int | None, name: str = "schedule") -> int:
    """Turn a length (steps, a fraction of the run, or ``None`` for all of it) into steps.

    Args:
        steps: The length as written in a config.
        run_steps: Length of the run in optimizer steps, if it has one.
        name: Who asks, for the message.

    Raises:
        ValueError: The length depends on that of the run, and the run has none.
    """
    if isinstance(steps, int):
        return steps
    if run_steps is None or run_steps < 0:
        raise ValueError(
            f"{name} with steps={steps} follows the length of the run, which has none: "
            "set trainer.max_epochs or trainer.max_steps, or give the schedule a number of steps"
        )
    return max(1, round((1.0 if steps is None else steps) * run_steps))


def _length(schedule: Schedule, steps: int | float | None, run_steps: int | None) -> int | None:
    return None if steps is None else resolve_steps(steps, run_steps, type(schedule).__name__)


def _check_steps(steps: int | float | None, name: str) -> None:
    fraction = isinstance(steps, float)
    if (
        isinstance(steps, bool)
        or (steps is not None and not (steps > 0))
        or (
            fraction and not steps <= 1  # type: ignore[operator]
        )
    ):
        raise ValueError(
            f"{name}.steps must be a whole number >= 1, a fraction of the run in (0, 1], "
            f"or null for all of the run; got {steps}"
        )


def _check_numbers(schedule: Schedule, **values: float) -> None:
    for key, value in values.items():
        # An integer beyond the range of a float is no number to compute with either.
        if not abs(value) <= sys.float_info.max:
            got = value if isinstance(value, float) else "an integer above 1.8e308"
            raise ValueError(f"{type(schedule).__name__}.{key} must be finite; got {got}")


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1; got {value!r}")


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: The value.
    """

    value: float

    def __post_init__(self) -> None:
        _check_numbers(self, value=self.value)

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value."""
        return self.value

    def bounds(self) -> tuple[float, float]:
        """Return the value twice."""
        return (self.value, self.value)


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From one value to another, then hold."""

    start: float
    end: float
    steps: int | float | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        _check_numbers(self, start=self.start, end=self.end)
        _check_steps(self.steps, name)
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
        return _length(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the higher end."""
        return (min(self.start, self.end), max(self.start, self.end))

    @abstractmethod
    def _at(self, progress: float) -> float:
        """Return the value at a progress in [0, 1)."""


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from ``start`` to ``end``, then hold.

    Args:
        start: The value at step 0.
        end: The value after that many steps, and from then on.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.
    """

    def _at(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class Cosine(_Ramp):
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
class Exponential(_Ramp):
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
        _check_numbers(self, start=self.start, end=self.end, rate=self.rate)
        for key, value in (("start", self.start), ("rate", self.rate)):
            if value <= 0:
                raise ValueError(f"Stepwise.{key} must be > 0; got {value:g}")
        _check_count("Stepwise.every", self.every)
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
        _check_numbers(self, start=self.start, end=self.end)
        _check_steps(self.steps, "Cyclical")
        _check_count("Cyclical.cycles", self.cycles)
        _check_numbers(self, ratio=self.ratio)
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
        return _length(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the higher end."""
        return (min(self.start, self.end), max(self.start, self.end))


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
        _check_numbers(self, start=self.start)
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
        return self.schedule(0, 1), self.schedule(_FOREVER, 1)
