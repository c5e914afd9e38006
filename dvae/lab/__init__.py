"""The gradient lab: how far each estimator is from the true gradient, and what it costs."""

from dvae.lab.exact import MAX_STATES, exact_gradient
from dvae.lab.functions import RidgeFunction, make_function, make_logits
from dvae.lab.measurement import adapt, measure, repeat
from dvae.lab.reference import Reference, reference_gradient
from dvae.lab.statistics import GradientStats

__all__ = [
    "MAX_STATES",
    "GradientStats",
    "Reference",
    "RidgeFunction",
    "adapt",
    "exact_gradient",
    "make_function",
    "make_logits",
    "measure",
    "reference_gradient",
    "repeat",
]
