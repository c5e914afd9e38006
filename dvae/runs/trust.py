"""Which classes a checkpoint may name: those of dvae, torch's optimizers, and packages trusted."""

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["BUILDER", "CLASS_PATH", "INSTANTIATOR", "refuse_foreign_classes"]

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


def refuse_foreign_classes(content: Mapping[str, Any], trusted: Sequence[str] = ()) -> None:
    """Refuse a checkpoint whose settings name what is from elsewhere, before it is imported.

    The command line's code, which builds the model, takes a string at nearly any place for the path
    of a class, or for YAML that holds one. So no string passes, wherever it stands, but a single
    word and the path of a class that is allowed.

    Args:
        content: The checkpoint.
        trusted: Packages beside dvae whose classes may be named.

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
        _walk({name: value for name, value in settings.items() if name != INSTANTIATOR}, trusted)


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
    if not (_starts(text, trusted) or (_starts(text, _OWN) and _is_own_class(text))):
        raise ValueError(
            f"the checkpoint names the class {text!r}, which is not of dvae: refused; "
            "load_from_checkpoint(..., trusted=[package]) allows the classes of a package"
        )


def _is_own_class(path: str) -> bool:
    # What a module of dvae has imported can be reached through it as well, as dvae.commands.os.
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return inspect.isclass(found) and _starts(f"{found.__module__}.{name}", _OWN)


def _starts(path: str, packages: Sequence[str]) -> bool:
    return any(path.startswith(f"{package}.") for package in packages)
