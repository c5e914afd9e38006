"""Throw random values at the public functions, and broken configs at the command line.

python -m benchmarks.fuzz --cases 100000
python -m benchmarks.fuzz --configs 10000

A case is good where the result and its gradients are finite and of the right shape, or where a
ValueError says in one line what is wrong. A config is good where the command line takes a training
and a validation step with it, on a few random images, or reports one line and leaves no folder of a
run. Anything else is a failure, and its input is printed.
"""

from benchmarks.fuzz.calls import case, fuzz
from benchmarks.fuzz.configs import config_case, fuzz_configs
from benchmarks.fuzz.tally import Counts, Failure

__all__ = ["Counts", "Failure", "case", "config_case", "fuzz", "fuzz_configs"]
