"""The parts of a model by name: what fine-tuning freezes, or trains at a rate of its own."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from dvae.scalars import annealable_scalars

__all__ = ["check_rates", "parameter_groups", "tensors_of"]


def tensors_of(module: nn.Module, name: str) -> tuple[str, ...]:
    """List the tensors of a part; a scalar that is annealed is a setting and belongs to none.

    Args:
        module: The model.
        name: Name of a submodule (``encoder``, ``decoder.0``) or of a tensor
            (``bottleneck.codebook``).

    Returns:
        Names of parameters and buffers, as in the checkpoint.

    Raises:
        ValueError: Nothing is called so; the message lists what there is.
    """
    settings = annealable_scalars(module)
    tensors = [key for key in module.state_dict() if key not in settings]
    # A part that has no tensors is one all the same, such as a bottleneck that learns nothing.
    parts = [key for key, _ in module.named_children()]
    return tuple(key for key in _match(name, [*parts, *tensors]) if key not in parts)


def check_rates(module: nn.Module, scales: Mapping[str, float]) -> dict[str, str]:
    """Find the part that each trained parameter belongs to; the longest name wins.

    Args:
        module: The model.
        scales: Factor on the learning rate by the name of a part.

    Returns:
        The part by the parameter's name; parameters in none are left out.

    Raises:
        ValueError: A factor that is not a number above 0, or a part without trained parameters; the
            message lists what there is.
    """
    trained = [key for key, parameter in module.named_parameters() if parameter.requires_grad]
    parts: dict[str, str] = {}
    for name in sorted(scales, key=len):
        if not (math.isfinite(scales[name]) and scales[name] > 0):
            raise ValueError(
                f"the factor on the learning rate of {name} must be a number > 0 (a part is "
                f"frozen by finetune.freeze); got {scales[name]}"
            )
        parts.update(dict.fromkeys(_match(name, trained), name))
    return parts


def parameter_groups(module: nn.Module, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """Group the trained parameters by part, for an optimizer.

    Args:
        module: The model.
        scales: Factor on the learning rate by the name of a part, as in `check_rates`.

    Returns:
        Groups with ``params``, ``name`` (empty for what is in no part) and ``lr_scale``, none of
        them empty.

    Raises:
        ValueError: As in `check_rates`.
    """
    parts = check_rates(module, scales)
    groups: dict[str, dict[str, Any]] = {}
    for key, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        name = parts.get(key, "")
        fresh = {"params": [], "name": name, "lr_scale": float(scales.get(name, 1.0))}
        groups.setdefault(name, fresh)["params"].append(parameter)
    return list(groups.values())


def _match(name: str, keys: Iterable[str]) -> tuple[str, ...]:
    keys = list(keys)
    found = tuple(key for key in keys if _is_under(key, name))
    if found:
        return found
    # What there is one level below the part of the name that does exist.
    known = name
    while known and not any(_is_under(key, known) for key in keys):
        known = known.rpartition(".")[0]
    below = [key[len(known) + 1 :] if known else key for key in keys if _is_under(key, known)]
    children = ", ".join(dict.fromkeys(key.split(".")[0] for key in below if key)) or "nothing"
    where = f"{known} has" if known else "there are"
    raise ValueError(f"no part of the model is called {name!r}; {where}: {children}")


def _is_under(key: str, name: str) -> bool:
    return not name or key == name or key.startswith(f"{name}.")
