"""The names that `dvae` itself shows, and where each is at home."""

from importlib import import_module

__all__ = ["full_path", "home", "home_of"]

# What they export is shown, so that a new estimator need not be listed once more.
# The estimators, which cost nothing beside torch, are looked at before the models.
_SHOWN = ("dvae.estimators", "dvae.models")
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
