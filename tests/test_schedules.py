import math

import pytest

from dvae.schedules import (
    Constant,
    Cosine,
    Cyclical,
    Exponential,
    Linear,
    Rescaled,
    Sequential,
    Stepwise,
)

ALL = [
    Constant(0.3),
    Linear(1.0, 0.2, 50),
    Cosine(1.0, 0.2),
    Exponential(1.0, 0.2, 0.5),
    Stepwise(1.0, 0.5, 1e-2, 10),
    Sequential([Linear(0.0, 1.0, 10), Cosine(1.0, 0.1)]),
    Cyclical(0.0, 1.0, 4, 0.5),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_values_stay_within_the_bounds_and_reach_their_end(schedule):
    low, high = schedule.bounds()
    values = [schedule(step, 100) for step in range(130)]
    assert min(values) >= low and max(values) <= high
    assert len(set(values[100:])) == 1


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_a_schedule_is_a_pure_function_of_the_step(schedule):
    forward = [schedule(step, 100) for step in range(100)]
    assert [schedule(step, 100) for step in reversed(range(100))] == forward[::-1]


def test_middles():
    assert Linear(1.0, 0.0, 10)(5) == 0.5
    assert Cosine(1.0, 0.0, 10)(5) == pytest.approx(0.5)
    assert Cosine(1.0, 0.0, 10)(2) == pytest.approx(0.5 * (1 + math.cos(math.pi / 5)))
    assert Exponential(1.0, 0.25, 10)(5) == pytest.approx(0.5)
    assert Cyclical(0.0, 1.0, 2, 0.5, 40)(5) == pytest.approx(0.5)
    assert Cyclical(0.0, 1.0, 2, 0.5, 40)(25) == pytest.approx(0.5)
    assert Cyclical(0.0, 1.0, 2, 0.5, 40)(15) == 1.0


def test_jang_2017():
    schedule = Stepwise(1.0, 0.5, 1e-5, 500)
    assert schedule(499) == 1.0
    assert schedule(1234) == math.exp(-1e-5 * 1000)
    # The compounding loop that people copy is at 0.5 long before: 11,801 steps instead of 69,315.
    assert schedule(11_801) > 0.88
    assert schedule(69_000) > 0.5 == schedule(70_000)


def test_lengths_in_steps_fractions_and_what_is_left():
    assert Linear(0.0, 1.0, 0.5)(25, 100) == 0.5
    assert Linear(0.0, 1.0)(25, 100) == 0.25
    warm_up = Sequential([Linear(0.0, 1.0, 0.2), Linear(1.0, 0.0)])
    assert warm_up(20, 100) == 1.0
    assert warm_up(60, 100) == pytest.approx(0.5)
    assert Sequential([Linear(0.0, 1.0, 10), Constant(1.0)])(50) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1.0, 1.0), "ends where it starts"),
        (lambda: Cyclical(1.0, 1.0), "ends where it starts"),
        (lambda: Stepwise(0.5, 0.5), "lower end"),
        (lambda: Cosine(1.0, 0.5, 0), "steps must be"),
        (lambda: Cosine(1.0, 0.5, -3), "steps must be"),
        (lambda: Cosine(1.0, 0.5, 1.5), "steps must be"),
        (lambda: Exponential(1.0, 0.0), "must be > 0"),
        (lambda: Stepwise(rate=-1.0), "rate must be > 0"),
        (lambda: Stepwise(every=0), "every must be an integer >= 1"),
        (lambda: Cyclical(cycles=0), "cycles must be an integer >= 1"),
        (lambda: Cyclical(ratio=0.0), "ratio must be in"),
        (lambda: Sequential([]), "at least one"),
        (lambda: Sequential([Constant(1.0), Linear(1.0, 0.0)]), "no length of its own"),
        (lambda: Linear(float("nan"), 1.0), "must be finite"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_open_length_needs_the_length_of_the_run():
    with pytest.raises(ValueError, match="has none"):
        Linear(1.0, 0.5)(3)


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(1.0, 0.2),
        Cosine(0.2, 1.0, 7),
        Exponential(1.0, 0.1, 0.5),
        Stepwise(1.0, 0.5, 0.1, 2),
        Cyclical(0.0, 1.0, 2, 0.5, 10),
        Sequential([Linear(0.1, 1.0, 0.2), Cosine(1.0, 0.3)]),
    ],
)
def test_rescaled_starts_at_the_new_value_and_ends_at_the_old_one(schedule):
    rescaled, run = Rescaled(schedule, 0.7), 40
    end = schedule(10 * run, run)
    assert rescaled(0, run) == 0.7 and rescaled(10 * run, run) == end
    steps = range(run + 5)
    shape = [(schedule(t, run) - end) / (schedule(0, run) - end) for t in steps]
    assert [(rescaled(t, run) - end) / (0.7 - end) for t in steps] == pytest.approx(shape)
    low, high = rescaled.bounds()
    assert all(low - 1e-12 <= rescaled(t, run) <= high + 1e-12 for t in steps)
    # Where it starts already, nothing changes.
    same = Rescaled(schedule, schedule(0, run))
    assert [same(t, run) for t in steps] == pytest.approx([schedule(t, run) for t in steps])


def test_what_does_not_move_cannot_be_rescaled():
    with pytest.raises(ValueError, match="Constant ends where it starts"):
        Rescaled(Constant(1.0), 0.5)
