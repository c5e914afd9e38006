"""A model's settings as plain values, and the model they describe; no foreign class is touched."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from dvae.models import DiscreteVAE
from dvae.models.weights import check_weights
from dvae.names import full_path
from dvae.runs.trust import BUILDER, CLASS_PATH, INSTANTIATOR, allowed, build, class_of

__all__ = ["build_model", "check_config", "config_of"]

# Where the parts of a model are: nothing else of dvae can be named in a config.
_PACKAGES = (
    "dvae.models",
    "dvae.networks",
    "dvae.bottlenecks",
    "dvae.priors",
    "dvae.likelihoods",
    "dvae.estimators",
    "dvae.penalties",
    "dvae.schedules",
)
# Belongs to a training run, and is a class of torch.
_NOT_SHARED = ("optimizer",)


def config_of(model: DiscreteVAE, trusted: Sequence[str] = ()) -> dict[str, Any]:
    """Describe a model so that `build_model` builds it again.

    Args:
        model: Built by the command line, loaded, or made in Python.
        trusted: Packages beside dvae whose classes it may be made of.

    Returns:
        ``class_path`` and ``init_args``, plain values; the optimizer is left out.

    Raises:
        ValueError: A part cannot be described, or a class is not of dvae.
    """
    own = type(model)
    values: dict[str, Any] = dict(model.hparams)
    path = values.pop(CLASS_PATH, None) or f"{own.__module__}.{own.__qualname__}"
    path = full_path(str(path))
    class_of(path, allowed(_PACKAGES, trusted))
    names = [name for name in inspect.signature(own).parameters if name not in _NOT_SHARED]
    unknown = [name for name in names if name not in values]
    if unknown:
        raise ValueError(
            f"the settings of {', '.join(unknown)} are not known, since this {own.__name__} has a "
            "part of a class that no import finds: move it into a module, or pass them as config, "
            "with class_path and init_args as in a YAML file"
        )
    return {"class_path": path, "init_args": {name: values[name] for name in names}}


def build_model(config: Any, trusted: Sequence[str] = ()) -> DiscreteVAE:
    """Build a model from plain values.

    Args:
        config: ``class_path`` and ``init_args``, the latter plain values or the same again.
        trusted: Packages beside dvae whose classes may be named.

    Returns:
        The model with fresh weights, which knows its settings.

    Raises:
        ValueError: A class is foreign, a setting is unknown, or a value is wrong.
    """
    if not isinstance(config, Mapping) or "class_path" not in config:
        raise ValueError("the config describes no model: it has no class_path")
    packages = allowed(_PACKAGES, trusted)
    if not issubclass(class_of(config["class_path"], packages), DiscreteVAE):
        raise ValueError(f"{config['class_path']} is no model: it must be a DiscreteVAE")
    model: DiscreteVAE = build(config, packages)
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


def check_config(config: Any, model: DiscreteVAE, trusted: Sequence[str] = ()) -> None:
    """Refuse a config that does not describe a model.

    Args:
        config: See `build_model`.
        model: What it is to describe.
        trusted: Packages beside dvae whose classes may be named.

    Raises:
        ValueError: It describes another model.
    """
    report = check_weights(build_model(config, trusted), model.state_dict())
    report.require("the config describes another model")
