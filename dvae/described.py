"""What a part was made with, as plain values, so that a checkpoint can say how to make it again."""

import functools
import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Described", "describe", "path_of"]

_MADE_WITH = "made_with"


class Described:
    """A part that remembers the arguments it was made with, as a dataclass does.

    Attributes:
        made_with: The arguments by name, those left out aside.
    """

    made_with: Mapping[str, Any] = MappingProxyType({})  # of a class without a constructor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have the constructor remember; the outermost one of a class and its bases is first."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]


def describe(value: Any) -> Any:
    """Write a value as a config would have it.

    Args:
        value: Plain value, dataclass, `Described`, class with some of its arguments
            (`functools.partial`), or collection of these.

    Returns:
        Plain values; an object is its ``class_path`` and ``init_args``, a dataclass without a base
        the latter alone, as Lightning's command line writes them.

    Raises:
        ValueError: It cannot be written, as a function or a class of ``__main__``.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, functools.partial) and not value.args:
        return {"class_path": path_of(value.func), "init_args": describe(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        if type(value).__bases__ == (object,):
            return describe(given)
    elif isinstance(value, Described):
        given = dict(value.made_with)
    else:
        raise ValueError(f"a config cannot hold {value!r}")
    return {"class_path": path_of(type(value)), "init_args": describe(given)}


def path_of(cls: Any) -> str:
    """Return the path by which a class is imported, the package's where that shows it too.

    Args:
        cls: The class.

    Raises:
        ValueError: No import finds it.
    """
    module, name = getattr(cls, "__module__", ""), getattr(cls, "__qualname__", "")
    for place in (module.rpartition(".")[0], module):
        found = getattr(sys.modules.get(place), name, None)
        if place != "__main__" and inspect.isclass(found) and found is cls:
            return f"{place}.{name}"
    raise ValueError(f"no import finds {cls!r}")


def _remembering(init: Any) -> Any:
    signature = inspect.signature(init)
    first = next(iter(signature.parameters))
    names = {parameter.kind: name for name, parameter in signature.parameters.items()}

    @functools.wraps(init)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        if _MADE_WITH not in self.__dict__:
            try:
                given = dict(signature.bind(self, *args, **kwargs).arguments)
            except TypeError:  # the constructor says it better
                given = {}
            given |= given.pop(names.get(inspect.Parameter.VAR_KEYWORD, ""), {})
            given.pop(first, None)
            self.__dict__[_MADE_WITH] = given
        init(self, *args, **kwargs)

    return made
