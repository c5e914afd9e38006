import math

import pytest

from dvae.schedules import (
    SCHEDULES,
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
# A new one that goes from a start to an end, as most do.
KNOWN = {Rescaled, *map(type, ALL)}
ALL += [cls(start=1.0, end=0.2) for cls in SCHEDULES.values() if cls not in KNOWN]


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
        (lambda: Stepwise(-1.0, -2.0), "start must be > 0"),
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


def test_a_constant_with_a_length_is_a_later_start_of_what_follows():
    late = Sequential([Constant(0.0, 0.25), Linear(0.0, 1.0, 4)])
    assert [late(step, 16) for step in (0, 3, 4, 6, 8, 99)] == [0, 0, 0, 0.5, 1, 1]
    with pytest.raises(ValueError, match="Constant.steps must be a whole number"):
        Constant(1.0, 0)


def test_an_open_length_needs_the_length_of_the_run():
    with pytest.raises(ValueError, match="has none"):
        Linear(1.0, 0.5)(3)
    # Said before the first step, and not where its turn has come.
    warm_up = Sequential([Linear(0.0, 1.0, 10), Cosine(1.0, 0.1)])
    assert warm_up(0) == 0.0
    with pytest.raises(ValueError, match="has none"):
        warm_up.check_run(None)
    warm_up.check_run(100)
    Sequential([Linear(0.0, 1.0, 10), Constant(1.0)]).check_run(None)


@pytest.mark.parametrize("kind", [Linear, Cosine, Exponential])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_the_end_is_reached_after_the_last_step_which_is_one_nth_away(kind, steps):
    schedule = kind(1.0, 0.25, steps)
    assert schedule(0) == 1.0 and schedule(steps) == schedule(steps + 1) == 0.25
    t = (steps - 1) / steps
    last = {
        Linear: 0.25 + 0.75 / steps,
        Cosine: 0.25 + 0.375 * (1 + math.cos(math.pi * t)),
        Exponential: 0.25**t,
    }
    assert schedule(steps - 1) == pytest.approx(last[kind])
    assert [kind(1.0, 0.25)(step, steps) for step in range(steps + 2)] == [
        schedule(step) for step in range(steps + 2)
    ]


OPEN = [
    Constant(0.4),
    Linear(1.0, 0.2),
    Cosine(1.0, 0.2),
    Cyclical(0.0, 1.0, 3),
    Stepwise(1.0, 0.0, 0.05, 3),
    Sequential([Linear(0.3, 1.0, 0.1), Exponential(1.0, 0.2)]),
    Rescaled(Sequential([Linear(0.3, 1.0, 20), Linear(1.0, 0.2)]), 0.7),
]
CLOSED = [
    Linear(1.0, 0.2, 30),
    Cosine(1.0, 0.2, 0.25),
    Cyclical(0.0, 1.0, 3, 1.0, steps=60),
    Stepwise(1.0, 0.5, 0.05, 3),
    Sequential([Linear(0.3, 1.0, 0.1), Exponential(1.0, 0.2, 31)]),
    Rescaled(Linear(1.0, 0.2, 30), 0.7),
]


def name(schedule):
    return type(schedule).__name__


@pytest.mark.parametrize("schedule", OPEN + CLOSED, ids=name)
def test_a_length_is_open_or_the_steps_after_which_nothing_moves(schedule):
    length = schedule.length(200)
    assert (length is None) == (schedule in OPEN)
    if length is None:
        return
    after = {schedule(step, 200) for step in range(length, 400)}
    assert len(after) == 1 and schedule(length - 1, 200) not in after


@pytest.mark.parametrize("schedule", OPEN + CLOSED, ids=name)
@pytest.mark.parametrize("run", [150, 200])
def test_grouping_the_parts_changes_nothing(schedule, run):
    first, second = Linear(0.0, 1.0, 17), Cosine(1.0, 0.3, 0.2)
    flat = Sequential([first, second, schedule])
    for nested in (
        Sequential([first, Sequential([second, schedule])]),
        Sequential([Sequential([first, second]), schedule]),
        Sequential([Sequential([Sequential([first]), second, Sequential([schedule])])]),
    ):
        assert [nested(t, run) for t in range(300)] == [flat(t, run) for t in range(300)]
        assert nested.length(run) == flat.length(run)


@pytest.mark.parametrize("schedule", OPEN[:5], ids=name)
def test_an_open_schedule_takes_what_is_left_of_the_run(schedule):
    found = [Sequential([Linear(0.0, 5.0, 40), schedule])(40 + t, 200) for t in range(200)]
    assert found == [schedule(t, 160) for t in range(200)]


@pytest.mark.parametrize("schedule", OPEN, ids=name)
def test_an_open_schedule_before_another_is_refused(schedule):
    for first in (schedule, Sequential([Linear(0.0, 1.0, 3), schedule])):
        with pytest.raises(ValueError, match="no length of its own"):
            Sequential([first, Linear(1.0, 0.0)])


@pytest.mark.parametrize("schedule", OPEN[1:] + CLOSED, ids=name)
def test_rescaled_inside_another_is_the_other_rescaled(schedule):
    end, first = Rescaled(schedule, 3.0)._ends()[::-1]
    plain = Sequential([Linear(0.0, 1.0, 17), schedule])
    inside = Sequential([Linear(0.0, 1.0, 17), Rescaled(schedule, 3.0)])
    wanted = [end + (3 - end) * (plain(t, 200) - end) / (first - end) for t in range(17, 300)]
    assert [inside(t, 200) for t in range(17, 300)] == pytest.approx(wanted)


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
