"""The names that `dvae` itself shows, and where each is at home."""

from importlib import import_module

__all__ = ["full_path", "home"]

# What they export is shown, so that a new estimator need not be listed once more.
_SHOWN = ("dvae.models", "dvae.estimators")


def home() -> dict[str, str]:
    """Return the module of every name that can be imported from `dvae`; imports them, and torch."""
    return {name: module for module in _SHOWN for name in import_module(module).__all__}


def full_path(path: str) -> str:
    """Return the one path of a class that `dvae` shows too; any other path as it is.

    Args:
        path: Such as `dvae.RLOO`, the shortest, which the command line writes into configs.

    Example:
        >>> full_path("dvae.RLOO")
        'dvae.estimators.RLOO'
    """
    module, _, name = path.rpartition(".")
    return f"{home().get(name, module)}.{name}" if module == "dvae" else path
