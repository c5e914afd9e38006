"""How a gradient crosses a categorical draw: one estimator a class, one family a file."""

from dvae.estimators.base import Draw, Estimator, PathwiseEstimator
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.estimators.reinmax import ReinMax
from dvae.estimators.straight_through import StraightThrough

__all__ = [
    "Draw",
    "Estimator",
    "GumbelSoftmax",
    "PathwiseEstimator",
    "ReinMax",
    "StraightThrough",
]
