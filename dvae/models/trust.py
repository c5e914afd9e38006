"""Which classes a checkpoint may name: those of dvae, torch's optimizers, and packages trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["refuse_foreign_classes"]

_BUILDER = "pytorch_lightning.cli.instantiate_module"


def refuse_foreign_classes(settings: Mapping[str, Any], trusted: Sequence[str] = ()) -> None:
    """Refuse settings that name a class from elsewhere, whose import alone would execute code.

    Args:
        settings: The hyperparameters of a checkpoint.
        trusted: Packages beside dvae whose classes may be named.

    Raises:
        ValueError: A class is of another package.
    """
    builder = settings.get("_instantiator", _BUILDER)
    if builder != _BUILDER:
        raise ValueError(f"the checkpoint asks to be built by {builder!r}: refused")
    _walk(settings, ("dvae", "torch.optim", *trusted))


def _walk(node: Any, packages: Sequence[str]) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            # A function that makes optimizers can be written as a bare path as well.
            named = key in ("class_path", "_class_path") or (
                key == "optimizer" and isinstance(value, str)
            )
            if named and not any(str(value).startswith(f"{package}.") for package in packages):
                raise ValueError(
                    f"the checkpoint names the class {value!r}, which is not of dvae: refused; "
                    "load_from_checkpoint(..., trusted=[package]) allows the classes of a package"
                )
            _walk(value, packages)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _walk(value, packages)
