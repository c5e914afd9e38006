r"""Schedules: a value as a pure function of the training step, hence right on resume.

The length of a schedule is a number of steps (``10000``), a fraction of the run (``0.1``), or
``None`` for all that is left of the run, whose length is known when training starts.

A step is taken with the value of the steps before it: the first has the start, and after n steps
the next has the end. The last of the n is therefore still a part of 1/n away from the end, so that
a learning rate that falls to 0 wastes no step.
"""

from dvae.schedules.base import Schedule
from dvae.schedules.constant import Constant
from dvae.schedules.cyclical import Cyclical
from dvae.schedules.ramps import Cosine, Exponential, Linear
from dvae.schedules.rescaled import Rescaled
from dvae.schedules.sequential import Sequential
from dvae.schedules.stepwise import Stepwise

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
