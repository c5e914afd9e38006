"""A shared model in a folder: read without a network, and without the Hub's library."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from dvae.models import DiscreteVAE
from dvae.models.weights import check_weights
from dvae.runs.former import modern_settings, modern_state
from dvae.sharing.config import build_model

__all__ = [
    "CONFIG",
    "SHIPPED",
    "WEIGHTS",
    "is_shared",
    "model_of",
    "read_shared",
    "shared_folder",
    "shipped",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"

SHIPPED = Path(__file__).parent / "models"
"""Folder of the trained models that come with the package."""


def shipped() -> list[str]:
    """List the names of the trained models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def shared_folder(name: str | Path) -> Path:
    """Return the folder of a name: its own, unless nothing lies there and a shipped model has it.

    Args:
        name: Path of a folder, or name of a shipped model.
    """
    path = Path(name)
    return SHIPPED / path if str(path) in shipped() and not path.exists() else path


def is_shared(path: Path) -> bool:
    """Tell whether a folder is that of a shared model.

    Args:
        path: Folder, or anything else.
    """
    return (path / CONFIG).is_file()


def read_shared(folder: Path, trusted: Sequence[str] = ()) -> DiscreteVAE:
    """Load the model of a folder.

    Args:
        folder: Folder with ``config.json`` and ``model.safetensors``.
        trusted: Packages beside dvae whose classes it may be made of.

    Raises:
        FileNotFoundError: It has no weights.
        ValueError: It has no settings, a file is damaged, a class is foreign, or weights and
            settings disagree.
    """
    config = None
    if is_shared(folder):
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return model_of(str(folder), config, folder / WEIGHTS, trusted)


def model_of(
    name: str, config: Mapping[str, Any] | None, weights: Path, trusted: Sequence[str]
) -> DiscreteVAE:
    """Build a model of its settings and fill in its weights.

    Args:
        name: Name of the source, for messages.
        config: Settings; None where there are none.
        weights: File of the weights.
        trusted: Packages beside dvae whose classes it may be made of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another model, or a class is foreign.
    """
    if config is None:
        raise ValueError(f"{name} is no shared model: it has no {CONFIG}")
    settings: Any = copy.deepcopy(config)
    if not isinstance(settings, Mapping):
        raise ValueError(f"{CONFIG} of {name} describes no model: it holds no settings by name")
    modern_settings(settings.get("init_args"))
    model = build_model(settings, trusted)
    if not weights.is_file():
        raise FileNotFoundError(f"{name} has no {WEIGHTS}")
    try:
        state = modern_state(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is cut short or damaged: get it anew") from error
    check_weights(model, state).require(f"{weights} is of another model")
    model.load_state_dict(state)
    return model
