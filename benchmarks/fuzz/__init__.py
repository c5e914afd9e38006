"""Random values at the public functions, broken configs, and random combinations of parts.

python -m benchmarks.fuzz --cases 100000
python -m benchmarks.fuzz --configs 10000
python -m benchmarks.fuzz --joints 500

A case is good where the result and its gradients are finite and of the right shape, or where a
ValueError says in one line what is wrong. A config is good where the command line takes a training
and a validation step with it, on a few random images, or reports one line and leaves no folder of a
run.

A joint is a combination of precision, bottleneck, estimator, kernel, data, callbacks, accumulation
and more, a way in which its run ends before it is done, and one in which it goes on: runs of a few
steps on a few images, through the command line. It is good where it is refused in the one line
known to be right, or where the laws hold: no traceback; the run that goes on ends as one that was
never stopped, to the last bit, with the same number of steps, validations at the same steps and the
values of the schedules that belong to the step; bounds are finite, in their order and below the
exact likelihood where that can be counted, near float32's in half precision, and of hard codes.

Anything else is a failure, and printed in one line; ``--case N`` repeats joint N.
"""

from benchmarks.fuzz.calls import case, fuzz
from benchmarks.fuzz.configs import config_case, fuzz_configs
from benchmarks.fuzz.joints import fuzz_joints, joint_case
from benchmarks.fuzz.tally import Counts, Failure

__all__ = [
    "Counts",
    "Failure",
    "case",
    "config_case",
    "fuzz",
    "fuzz_configs",
    "fuzz_joints",
    "joint_case",
]
