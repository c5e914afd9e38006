"""Objects built from the plain values of a file: of dvae's classes, and of packages one trusts."""

import importlib
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

__all__ = [
    "BUILDER",
    "CLASS_PATH",
    "INSTANTIATOR",
    "allowed",
    "build",
    "class_of",
    "refuse_foreign_classes",
]

# What Lightning's command line (read in 2.6) puts beside a model's settings in a checkpoint: the
# class, and what builds it again.
CLASS_PATH = "_class_path"
INSTANTIATOR = "_instantiator"
BUILDER = "pytorch_lightning.cli.instantiate_module"

_OWN = ("dvae", "torch.optim")
# Lightning still builds models from the keys of its old versions.
_KEYS = ("hyper_parameters", "hparams", "module_arguments")
# A choice among a few, as "cuda-graphs", or the short name of a class that is imported already.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")


def allowed(own: Sequence[str], trusted: Sequence[str]) -> tuple[str, ...]:
    """List the packages whose classes a file may name.

    Args:
        own: Packages of dvae.
        trusted: Packages that the user trusts, or one.
    """
    return (*own, *([trusted] if isinstance(trusted, str) else trusted))


def class_of(path: Any, packages: Sequence[str]) -> type:
    """Import the class that a file names, if it is of a package that is allowed.

    Args:
        path: Path of the class, such as ``dvae.networks.MLP``.
        packages: Packages, as `allowed` lists them; nothing of any other is imported.

    Raises:
        ValueError: It is of another package, not there, not a class, or abstract.
    """
    module, _, name = str(path).rpartition(".")
    # What `dvae` itself shows is at home in its packages.
    known = module == "dvae" or _within(module, packages)
    try:
        found = getattr(importlib.import_module(module), name) if known else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no class {path!r} in this environment: {error}") from error
    # What a module has imported can be reached through it as well, as dvae.commands.os.
    if not inspect.isclass(found) or not _within(found.__module__, packages):
        raise ValueError(
            f"the class {path!r} is refused: it is not a class of {', '.join(packages)} (one "
            "of your own: --trusted PACKAGE, in Python trusted=[PACKAGE])"
        )
    if inspect.isabstract(found):
        raise ValueError(f"the class {path!r} is abstract: choose one of its subclasses")
    return found


def build(node: Mapping[str, Any], packages: Sequence[str]) -> Any:
    """Build an object, and those that it is made of, from plain values.

    Args:
        node: ``class_path`` and ``init_args``, the latter plain values or the same again.
        packages: Packages, as `allowed` lists them.

    Raises:
        ValueError: A class is of another package, a setting is unknown, or a value is wrong.
    """
    cls = class_of(node["class_path"], packages)
    values = node.get("init_args") or {}
    others = set(node) - {"class_path", "init_args"}
    return _make(cls, values, packages, others)


def refuse_foreign_classes(
    content: Mapping[str, Any], trusted: Sequence[str] = (), replaced: Collection[str] = ()
) -> None:
    """Refuse a checkpoint whose settings name what is from elsewhere, before it is imported.

    The command line's code, which builds the model, takes a string at nearly any place for the path
    of a class, or for YAML that holds one. So no string passes, wherever it stands, but a single
    word and the path of a class that is allowed.

    Args:
        content: The checkpoint.
        trusted: Packages beside dvae whose classes may be named.
        replaced: Names of settings that are given anew, so that nothing is built of the saved ones.

    Raises:
        ValueError: A class is of another package, or a setting is not a plain value.
    """
    for key in _KEYS:
        settings = content.get(key) or {}
        if not isinstance(settings, Mapping):
            raise ValueError(f"the checkpoint's {key} have no names: refused")
        builder = settings.get(INSTANTIATOR, BUILDER)
        if builder != BUILDER:
            raise ValueError(f"the checkpoint asks to be built by {builder!r}: refused")
        others = {INSTANTIATOR, *replaced}
        _walk({name: value for name, value in settings.items() if name not in others}, trusted)


def _walk(node: Any, trusted: Sequence[str]) -> None:
    if isinstance(node, Mapping):
        for value in node.values():
            _walk(value, trusted)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _walk(value, trusted)
    elif isinstance(node, str):
        _check(node, trusted)
    elif not (node is None or isinstance(node, (bool, int, float))):
        raise ValueError(f"the checkpoint's settings hold a {type(node).__name__}: refused")


def _check(text: str, trusted: Sequence[str]) -> None:
    if _WORD.fullmatch(text):
        return
    if not _CLASS.fullmatch(text):
        raise ValueError(
            f"the checkpoint's settings hold {text!r}, which is neither a word nor the path of a "
            "class: refused"
        )
    try:
        class_of(text, allowed(_OWN, trusted))
    except ValueError as error:
        raise ValueError(
            f"the checkpoint names the class {text!r}, which is not of dvae: refused; "
            "load_from_checkpoint(..., trusted=[package]) allows the classes of a package"
        ) from error


def _make(cls: type, values: Any, packages: Sequence[str], others: set[str]) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"the settings of {cls.__name__} must have names; got {values!r}")
    parameters = inspect.signature(cls).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in [*sorted(others), *values]:
        if name in others or not (takes_any or name in parameters):
            raise ValueError(f"{cls.__name__} has no setting {name!r}")
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
        return cls(**{name: _value(v, hints.get(name), packages) for name, v in values.items()})
    except (TypeError, AttributeError, NameError) as error:
        raise ValueError(f"the settings of {cls.__name__} do not fit: {error}") from error


def _value(value: Any, hint: Any, packages: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return build(value, packages)
        # The command line writes a dataclass that has no subclasses without its name.
        plain = [cls for cls in (hint, *get_args(hint)) if is_dataclass(cls)]
        if len(plain) != 1 or not isinstance(plain[0], type):
            raise ValueError(f"a class is written as class_path and init_args; got {dict(value)}")
        return _make(plain[0], value, packages, set())
    if isinstance(value, (list, tuple)):
        items = [_value(item, None, packages) for item in value]
        is_tuple = any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))
        return tuple(items) if is_tuple else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a config holds plain values; got {type(value).__name__}")


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)
