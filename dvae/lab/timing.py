"""What a step costs with each estimator, timed in turn with Gumbel-softmax."""

import copy
import statistics
import time
from dataclasses import dataclass

from dvae.estimators import Estimator, GumbelSoftmax
from dvae.lab.measurement import repeat
from dvae.lab.problem import Problem

__all__ = ["StepTime", "step_time"]

_PAIRS = 15

# A slow estimator gets fewer pairs, to keep the whole within minutes.
_LEAST_PAIRS = 3
_SECONDS = 1.0


@dataclass(frozen=True)
class StepTime:
    """Time of a forward and backward pass of `Estimator.expectation`.

    Attributes:
        milliseconds: Median.
        ratio: Median of the time over that of `GumbelSoftmax` right before it.
        ratio_p20: 20th percentile of that.
        ratio_p80: 80th percentile of that.
        pairs: How many were timed.
    """

    milliseconds: float
    ratio: float
    ratio_p20: float
    ratio_p80: float
    pairs: int


def step_time(estimator: Estimator, problem: Problem, batch: int = 200) -> StepTime:
    """Time one step as training takes it: gradients for the logits and for all parameters.

    Args:
        estimator: What to time.
        problem: Gives f and the logits, repeated to a batch.
        batch: Examples in a step, about.

    Returns:
        The time on this machine, and relative to `GumbelSoftmax`.
    """
    copies = max(1, batch // len(problem.logits))
    f, logits = repeat(problem.f, problem.logits, copies)
    logits.requires_grad_()

    def seconds(timed: Estimator) -> float:
        start = time.perf_counter()
        timed.expectation(f, logits).sum().backward()
        return time.perf_counter() - start

    # A copy: a step moves running means and fills the gradients of parameters.
    reference, timed_estimator = GumbelSoftmax(), copy.deepcopy(estimator)
    for timed in (reference, timed_estimator):  # the first step allocates
        seconds(timed)
    own: list[float] = []
    ratios: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(own) < _LEAST_PAIRS or (len(own) < _PAIRS and time.perf_counter() < end):
        before = seconds(reference)
        own.append(seconds(timed_estimator))
        ratios.append(own[-1] / before)
    cuts = statistics.quantiles(ratios, n=10, method="inclusive")
    median = statistics.median(ratios)
    return StepTime(1e3 * statistics.median(own), median, cuts[1], cuts[7], len(own))
