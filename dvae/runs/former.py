"""What former versions called otherwise: a model's prior (until 2026-11-27), a folder's images."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["FORMER", "modern_data", "modern_settings", "modern_state", "modern_states"]

FORMER = {"flip": "augment, null to mirror half", "skip_unreadable": "pixels.skip_unreadable"}
"""Settings that `ImageFolder` had until 2026-11-28, and what they are now."""

_MIRROR = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}

_LEARNED = "bottleneck.prior_logits"
_GIVEN = "bottleneck.log_prior_probs"


def modern_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of a former model's prior as those of today are, in the order they have.

    Args:
        state: Weights of a model, of whatever age.
    """
    found = {}
    for name, value in state.items():
        if name == _GIVEN or (name == _LEARNED and not value.any()):
            # What was not learned is a table of what it says.
            found["prior.table"] = value if name == _GIVEN else value.log_softmax(0)
        else:
            found["prior.logits" if name == _LEARNED else name] = value
    return found


def modern_settings(settings: Any) -> bool:
    """Turn the prior among a former bottleneck's settings into the model's, in place.

    Args:
        settings: Plain arguments of a model; anything else has none.

    Returns:
        Whether there was one.
    """
    bottleneck = settings.get("bottleneck") if isinstance(settings, dict) else None
    given = bottleneck.get("init_args") if isinstance(bottleneck, dict) else None
    if not isinstance(given, dict):
        return False
    learned, probs = given.pop("learned_prior", False), given.pop("prior", None)
    if not learned and not probs:
        return False
    path = "dvae.priors.CategoricalPrior"
    settings["prior"] = {"class_path": path, "init_args": {"probs": probs}}
    return True


def modern_data(node: Any) -> None:
    """Turn what a former config said of a folder of images into what today's say, in place.

    Args:
        node: ``class_path`` and ``init_args`` of a data set; anything else is left as it is.
    """
    given = node.get("init_args") if isinstance(node, dict) else None
    if not isinstance(given, dict) or not str(node.get("class_path")).endswith("ImageFolder"):
        return
    if given.pop("skip_unreadable", False):
        given["pixels"] = {**(given.get("pixels") or {}), "skip_unreadable": True}
    if "flip" in given:
        flip, augment = given.pop("flip"), given.get("augment") or []
        given["augment"] = [*augment, _MIRROR] if flip and augment else None if flip else augment


def modern_states(optimizers: list[dict[str, Any]], old: Sequence[str], new: Sequence[str]) -> None:
    """Number an optimizer's memory of a former model's parameters as today's are; in place.

    Args:
        optimizers: States of the optimizers, of one group of parameters each.
        old: Names of the trained parameters in the order they had.
        new: The same in the order they have.
    """
    if list(old) == list(new):
        return
    place = {name: number for number, name in enumerate(old)}
    for optimizer in optimizers:
        state = optimizer["state"]
        if len(optimizer["param_groups"]) == 1 and len(state) == len(new) == len(old):
            optimizer["state"] = {n: state[place[name]] for n, name in enumerate(new)}
