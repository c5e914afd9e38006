"""The names that `dvae` and its packages show, and where each is at home."""

import inspect
import pkgutil
import sys
from importlib import import_module
from typing import Any

__all__ = ["full_path", "gather", "home", "home_of"]

# What they export is shown, so that a new estimator need not be listed once more.
# The estimators, which cost nothing beside torch, are looked at before the models.
_SHOWN = ("dvae.estimators", "dvae.priors", "dvae.models")
_FUNCTIONS = {"load": "dvae.sharing"}


def home() -> dict[str, str]:
    """Return the module of every name that can be imported from `dvae`; imports them, and torch."""
    shown = {name: module for module in _SHOWN for name in import_module(module).__all__}
    return shown | _FUNCTIONS


def home_of(name: str) -> str | None:
    """Return the module of one name, or ``None`` if `dvae` shows none of it; imports little else.

    Args:
        name: Such as `RLOO`. What begins with a small letter is looked for among functions alone:
            Python asks for submodules and much else here, also while one is being imported.
    """
    if not name[:1].isupper():
        return _FUNCTIONS.get(name)
    return next((place for place in _SHOWN if name in import_module(place).__all__), None)


def full_path(path: str) -> str:
    """Return the one path of a class that `dvae` shows too; any other path as it is.

    Args:
        path: Such as `dvae.RLOO`, the shortest, which the command line writes into configs.

    Example:
        >>> full_path("dvae.RLOO")
        'dvae.estimators.RLOO'
    """
    module, _, name = path.rpartition(".")
    return f"{home_of(name) or module}.{name}" if module == "dvae" else path


def gather(package: str, kind: type) -> dict[str, Any]:
    """Import every file of a package and find the classes of a kind, so that none is listed.

    Args:
        package: Name of the package, which is being imported.
        kind: What the classes are subclasses of.

    Returns:
        The public classes that can be built, by name, in alphabetical order.
    """
    found = {}
    for file in pkgutil.iter_modules(sys.modules[package].__path__, f"{package}."):
        for name, value in vars(import_module(file.name)).items():
            mine = inspect.isclass(value) and value.__module__ == file.name
            if mine and issubclass(value, kind) and not inspect.isabstract(value):
                found[name] = value
    return {name: found[name] for name in sorted(found, key=str.lower) if name[0] != "_"}
