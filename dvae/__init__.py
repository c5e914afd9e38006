"""Discrete VAEs with a pluggable, proven gradient across the discrete draw.

Models, estimators and `load` are importable from here; they, and torch, are imported at first use.

Example:
    >>> import dvae
    >>> model = dvae.CategoricalVAE()
    >>> estimator = dvae.GumbelSoftmax(tau=0.5)
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from dvae.names import home, home_of

if TYPE_CHECKING:
    from dvae.estimators import *
    from dvae.models import *
    from dvae.sharing import load as load

try:
    __version__ = version("dvae")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *home()]
    module = home_of(name)
    if module is not None:
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'dvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__all__", *home()})
