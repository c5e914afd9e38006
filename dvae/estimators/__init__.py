"""How a gradient crosses a categorical draw: one estimator a class, one family a file."""

from typing import TYPE_CHECKING

from dvae.estimators.base import Draw as Draw
from dvae.estimators.base import Estimator as Estimator
from dvae.estimators.base import PathwiseEstimator as PathwiseEstimator
from dvae.names import gather

ESTIMATORS: dict[str, type[Estimator]] = gather(__name__, Estimator)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.estimators.arms import *
    from dvae.estimators.decoupled_gumbel_softmax import *
    from dvae.estimators.disarm import *
    from dvae.estimators.exact_enumeration import *
    from dvae.estimators.gapped_straight_through import *
    from dvae.estimators.gumbel_rao import *
    from dvae.estimators.gumbel_softmax import *
    from dvae.estimators.mean_field import *
    from dvae.estimators.minimum_variance import *
    from dvae.estimators.rebar import *
    from dvae.estimators.reinforce import *
    from dvae.estimators.reinmax import *
    from dvae.estimators.reinmax_rao import *
    from dvae.estimators.relax import *
    from dvae.estimators.rloo import *
    from dvae.estimators.straight_through import *
    from dvae.estimators.vimco import *
    from dvae.estimators.zgr import *
else:
    globals().update(ESTIMATORS)
    __all__ = ["Draw", "Estimator", "PathwiseEstimator", *ESTIMATORS]
