"""Packages that only some features need, asked for when they are."""

import importlib
from types import ModuleType

__all__ = ["MissingExtra", "require"]


class MissingExtra(ImportError):
    """A package of an optional part of dvae is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import a package of an extra.

    Args:
        module: What to import.
        extra: The extra of dvae that brings it.

    Returns:
        The module.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(f'this needs {package}: pip install "dvae[{extra}]"') from error
