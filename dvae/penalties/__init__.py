"""Penalties: what a reconstruction costs beside its likelihood, one a file."""

from typing import TYPE_CHECKING

from dvae.names import gather
from dvae.penalties.base import Penalty as Penalty

PENALTIES: dict[str, type[Penalty]] = gather(__name__, Penalty)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.penalties.adversarial import *
    from dvae.penalties.perceptual import *
else:
    globals().update(PENALTIES)
    __all__ = ["Penalty", *PENALTIES]
