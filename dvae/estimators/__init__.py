"""How a gradient crosses a categorical draw: one estimator a class, one family a file."""

from dvae.estimators.arms import ARMS
from dvae.estimators.base import Draw, Estimator, PathwiseEstimator
from dvae.estimators.decoupled_gumbel_softmax import DecoupledGumbelSoftmax
from dvae.estimators.disarm import DisARM
from dvae.estimators.exact_enumeration import ExactEnumeration
from dvae.estimators.gapped_straight_through import GappedStraightThrough
from dvae.estimators.gumbel_rao import GumbelRao
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.estimators.mean_field import MeanField
from dvae.estimators.minimum_variance import MinimumVariance
from dvae.estimators.rebar import REBAR
from dvae.estimators.reinforce import Reinforce
from dvae.estimators.reinmax import ReinMax
from dvae.estimators.reinmax_rao import ReinMaxRao
from dvae.estimators.relax import RELAX
from dvae.estimators.rloo import RLOO
from dvae.estimators.straight_through import StraightThrough
from dvae.estimators.vimco import VIMCO
from dvae.estimators.zgr import ZGR

__all__ = [
    "ARMS",
    "REBAR",
    "RELAX",
    "RLOO",
    "VIMCO",
    "ZGR",
    "DecoupledGumbelSoftmax",
    "DisARM",
    "Draw",
    "Estimator",
    "ExactEnumeration",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelSoftmax",
    "MeanField",
    "MinimumVariance",
    "PathwiseEstimator",
    "ReinMax",
    "ReinMaxRao",
    "Reinforce",
    "StraightThrough",
]
