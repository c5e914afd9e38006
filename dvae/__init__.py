"""Discrete VAEs with a pluggable, proven gradient across the discrete draw."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dvae")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
