"""A model's settings as plain values, and the model they describe; no foreign class is touched."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from dvae.models import DiscreteVAE
from dvae.models.weights import check_weights
from dvae.names import full_path
from dvae.runs.trust import BUILDER, CLASS_PATH, INSTANTIATOR

__all__ = ["build_model", "check_config", "config_of"]

# Where the parts of a model are: nothing else can be named in a config.
_PACKAGES = (
    "models",
    "networks",
    "bottlenecks",
    "priors",
    "likelihoods",
    "estimators",
    "schedules",
)
# Belongs to a training run, and is a class of torch.
_NOT_SHARED = ("optimizer",)


def config_of(model: DiscreteVAE) -> dict[str, Any]:
    """Describe a model so that `build_model` builds it again.

    Args:
        model: Built by the command line, loaded, or made in Python from default parts.

    Returns:
        ``class_path`` and ``init_args``, plain values; the optimizer is left out.

    Raises:
        ValueError: Parts were made in Python, whose settings are not known, or a class is not of
            dvae.
    """
    own = type(model)
    values: dict[str, Any] = dict(model.hparams)
    path = values.pop(CLASS_PATH, None) or f"{own.__module__}.{own.__qualname__}"
    path = full_path(str(path))
    _class_of(path)
    names = [name for name in inspect.signature(own).parameters if name not in _NOT_SHARED]
    unknown = [name for name in names if name not in values]
    if unknown:
        raise ValueError(
            f"the settings of {', '.join(unknown)} are not known, since this {own.__name__} was "
            "made of parts in Python: pass them as config, with class_path and init_args as in a "
            "YAML file"
        )
    return {"class_path": path, "init_args": {name: values[name] for name in names}}


def build_model(config: Any) -> DiscreteVAE:
    """Build a model from plain values.

    Args:
        config: ``class_path`` and ``init_args``, the latter plain values or the same again.

    Returns:
        The model with fresh weights, which knows its settings.

    Raises:
        ValueError: A class is not of dvae's models, a setting is unknown, or a value is wrong.
    """
    if not isinstance(config, Mapping) or "class_path" not in config:
        raise ValueError("the config describes no model: it has no class_path")
    model = _build(config)
    if not isinstance(model, DiscreteVAE):
        raise ValueError(f"{config['class_path']} is no model: it must be a DiscreteVAE")
    # As the command line does, so that the model can be saved and shared again.
    model.hparams.update(
        {
            CLASS_PATH: config["class_path"],
            **dict.fromkeys(inspect.signature(type(model)).parameters),
            **config.get("init_args", {}),
            INSTANTIATOR: BUILDER,
        }
    )
    return model


def check_config(config: Any, model: DiscreteVAE) -> None:
    """Refuse a config that does not describe a model.

    Args:
        config: See `build_model`.
        model: What it is to describe.

    Raises:
        ValueError: It describes another model.
    """
    report = check_weights(build_model(config), model.state_dict())
    if not report.matches:
        raise ValueError(f"the config describes another model: {report.problem()}")


def _build(node: Mapping[str, Any]) -> Any:
    cls = _class_of(node["class_path"])
    return _make(cls, node.get("init_args") or {}, set(node) - {"class_path", "init_args"})


def _make(cls: type, values: Any, others: set[str]) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"the settings of {cls.__name__} must have names; got {values!r}")
    allowed = inspect.signature(cls).parameters
    for name in [*sorted(others), *values]:
        if name in others or name not in allowed:
            raise ValueError(f"{cls.__name__} has no setting {name!r}")
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    try:
        return cls(**{name: _value(value, hints.get(name)) for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the settings of {cls.__name__} do not fit: {error}") from error


def _value(value: Any, hint: Any) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return _build(value)
        # The command line writes a dataclass that has no subclasses without its name.
        plain = [cls for cls in (hint, *get_args(hint)) if is_dataclass(cls)]
        if len(plain) != 1 or not isinstance(plain[0], type):
            raise ValueError(f"a class is written as class_path and init_args; got {dict(value)}")
        return _make(plain[0], value, set())
    if isinstance(value, (list, tuple)):
        items = [_value(item, None) for item in value]
        is_tuple = any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))
        return tuple(items) if is_tuple else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"a config holds plain values; got {type(value).__name__}")


def _class_of(path: Any) -> type:
    parts = full_path(str(path)).split(".")
    if len(parts) < 3 or parts[0] != "dvae" or parts[1] not in _PACKAGES:
        raise ValueError(
            f"the class {path!r} is refused: a shared model is made of the classes of "
            f"{', '.join(f'dvae.{package}' for package in _PACKAGES)}"
        )
    try:
        found = getattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no class {path!r} in this version of dvae") from error
    home = getattr(found, "__module__", "").split(".")
    if not inspect.isclass(found) or home[0] != "dvae" or home[1:2] != [parts[1]]:
        raise ValueError(f"the class {path!r} is refused: it is no class of dvae.{parts[1]}")
    if inspect.isabstract(found):
        raise ValueError(f"the class {path!r} is abstract: choose one of its subclasses")
    return found
