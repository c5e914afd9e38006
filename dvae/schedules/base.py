"""What a schedule is, and the checks that schedules share."""

import sys
from abc import ABC, abstractmethod

__all__ = [
    "FOREVER",
    "Mover",
    "Schedule",
    "Way",
    "check_numbers",
    "check_steps",
    "length_of",
    "resolve_steps",
]

# A step after the last of any schedule.
FOREVER = 2**62


class Mover(ABC):
    """What may move a temperature: a `Schedule`, or `Tuned`, which looks at more than the step."""

    @abstractmethod
    def check_run(self, run_steps: int | None) -> None:
        """Refuse a run without an end where any part follows its length, before it starts.

        Args:
            run_steps: Length of the run in optimizer steps, if it has one.

        Raises:
            ValueError: The run has none.
        """


class Schedule(Mover):
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
        """Evaluate its first value and its last; see `Mover.check_run`."""
        for step in (0, FOREVER):
            self(step, run_steps)


class Way(Schedule):
    """A schedule from one value to another in a number of steps, then hold.

    Attributes:
        start: The value at step 0.
        end: The value after that many steps, and from then on.
        steps: Length: steps, fraction of the run, or ``None`` for all of it.
    """

    start: float
    end: float
    steps: int | float | None

    def __post_init__(self) -> None:
        """Check the values."""
        check_numbers(self, start=self.start, end=self.end)
        check_steps(self.steps, type(self).__name__)
        if self.start == self.end:
            raise ValueError(
                f"{type(self).__name__} ends where it starts ({self.start:g}), so it never moves: "
                "give another end, or use Constant"
            )

    def __call__(self, step: int, run_steps: int | None = None) -> float:
        """Return the value at a step; see `Schedule`."""
        steps = resolve_steps(self.steps, run_steps, type(self).__name__)
        return self.end if step >= steps else self._at(max(step, 0), steps)

    def length(self, run_steps: int | None = None) -> int | None:
        """Return the steps; see `Schedule.length`."""
        return length_of(self, self.steps, run_steps)

    def bounds(self) -> tuple[float, float]:
        """Return the lower and the higher end."""
        return (min(self.start, self.end), max(self.start, self.end))

    @abstractmethod
    def _at(self, step: int, steps: int) -> float:
        """Return the value at a step below the number of them."""


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


def length_of(schedule: Schedule, steps: int | float | None, run_steps: int | None) -> int | None:
    """Turn a length into steps, and leave an open one open; see `resolve_steps`."""
    return None if steps is None else resolve_steps(steps, run_steps, type(schedule).__name__)


def check_steps(steps: int | float | None, name: str) -> None:
    """Refuse a length that is none.

    Args:
        steps: The length as written in a config.
        name: Name of the class, for the message.

    Raises:
        ValueError: It is not above 0, or a fraction above 1.
    """
    positive = steps is None or (not isinstance(steps, bool) and steps > 0)
    if not positive or (isinstance(steps, float) and not steps <= 1):
        raise ValueError(
            f"{name}.steps must be a whole number >= 1, a fraction of the run in (0, 1], "
            f"or null for all of the run; got {steps}"
        )


def check_numbers(schedule: Schedule, **values: float) -> None:
    """Refuse values that are not finite.

    Args:
        schedule: Named in the message.
        values: Values by the name of the argument.

    Raises:
        ValueError: One is not.
    """
    for key, value in values.items():
        # An integer beyond the range of a float cannot be computed with either.
        if not abs(value) <= sys.float_info.max:
            got = value if isinstance(value, float) else "an integer above 1.8e308"
            raise ValueError(f"{type(schedule).__name__}.{key} must be finite; got {got}")
