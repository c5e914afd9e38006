r"""Schedules: a value as a pure function of the training step, hence right on resume.

The length of a schedule is a number of steps (``10000``), a fraction of the run (``0.1``), or
``None`` for all that is left of the run, whose length is known when training starts.

A step is taken with the value of the steps before it: the first has the start, and after n steps
the next has the end. The last of the n is therefore still a part of 1/n away from the end, so that
a learning rate that falls to 0 wastes no step.
"""

from typing import TYPE_CHECKING

from dvae.names import gather
from dvae.schedules.base import Mover as Mover
from dvae.schedules.base import Schedule as Schedule
from dvae.schedules.tuned import Tuned as Tuned

SCHEDULES: dict[str, type[Schedule]] = gather(__name__, Schedule)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.schedules.constant import *
    from dvae.schedules.cyclical import *
    from dvae.schedules.ramps import *
    from dvae.schedules.rescaled import *
    from dvae.schedules.sequential import *
    from dvae.schedules.stepwise import *
else:
    globals().update(SCHEDULES)
    __all__ = ["Mover", "Schedule", "Tuned", *SCHEDULES]
