"""Priors: p(z) over the codes of an image, a part of the model."""

from typing import TYPE_CHECKING

from dvae.names import gather
from dvae.priors.base import FactorisedPrior as FactorisedPrior
from dvae.priors.base import Prior as Prior
from dvae.priors.base import Sampling as Sampling

PRIORS: dict[str, type[Prior]] = gather(__name__, Prior)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.priors.autoregressive import *
    from dvae.priors.categorical import *
    from dvae.priors.made import *
    from dvae.priors.masked import *
    from dvae.priors.uniform import *
else:
    globals().update(PRIORS)
    __all__ = ["FactorisedPrior", "Prior", "Sampling", *PRIORS]
