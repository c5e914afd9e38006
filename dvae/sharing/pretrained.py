"""Saving a model to be shared, loading a shared one, and uploading it to the Hugging Face Hub."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvae.doing import doing
from dvae.extras import require
from dvae.models import DiscreteVAE
from dvae.runs.files import check_new, whole_folder
from dvae.sharing.card import Facts, model_card
from dvae.sharing.config import check_config, config_of
from dvae.sharing.folder import read_shared, shared_folder, shipped

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]


def save_pretrained(
    model: DiscreteVAE,
    folder: str | Path,
    figures: Mapping[str, float] | None = None,
    data: str = "",
    config: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
    license: str = "",
    picture: str | Path | None = None,
    card: str | Path | None = None,
) -> list[Path]:
    """Write ``config.json``, ``model.safetensors`` and the model card ``README.md``.

    Where the prior looks at the whole code, ``samples.png`` is the card's picture.

    Args:
        model: Built by the command line, loaded, or made in Python; its optimizer is left out.
        folder: Where to; it must be empty or not be there, and is complete once it is.
        figures: What was measured, for the card, such as ``{"test/elbo": ...}``.
        data: What it was measured on, for the card.
        config: Class and settings, for a model with a part that cannot be described (see
            `dvae.described`): ``class_path`` and ``init_args``, as in a YAML file.
        trusted: Packages beside dvae whose classes it may be made of; whoever loads it names them.
        license: Identifier of the licence that the weights are given under, such as ``mit``.
        picture: File of its reconstructions, which the card shows; it has images of the data.
        card: File of a card to keep, with the pictures beside it, in place of one that is written
            of figures and data.

    Returns:
        The files.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        FileNotFoundError: There is no such picture or card.
        ValueError: The folder is not empty, or the settings of the model are not known.
    """
    folder = Path(folder)
    check_new(folder)
    facts = _facts(figures, data, trusted, license, picture, card)
    shared, settings = _shared(model, folder.name, config, facts)
    with whole_folder(folder) as beside:
        shared.save_pretrained(beside, config=settings)
    return sorted(folder.iterdir())


def push_to_hub(
    model: DiscreteVAE,
    name: str,
    figures: Mapping[str, float] | None = None,
    data: str = "",
    config: Mapping[str, Any] | None = None,
    private: bool | None = None,
    trusted: Sequence[str] = (),
    license: str = "",
    picture: str | Path | None = None,
    card: str | Path | None = None,
) -> str:
    """Upload a model to the Hugging Face Hub, with the credentials of ``hf auth login``.

    Args:
        model: As in `save_pretrained`.
        name: ``user/name`` of the repository, which is made where there is none.
        figures: As in `save_pretrained`.
        data: As in `save_pretrained`.
        config: As in `save_pretrained`.
        private: Whether a new repository is private; the account's default if None.
        trusted: As in `save_pretrained`.
        license: As in `save_pretrained`.
        picture: As in `save_pretrained`.
        card: As in `save_pretrained`.

    Returns:
        The address of the commit.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        FileNotFoundError: There is no such picture or card.
        ValueError: The settings of the model are not known, or the name is none of a repository.
    """
    facts = _facts(figures, data, trusted, license, picture, card)
    shared, settings = _shared(model, name, config, facts)
    with doing(f"uploading {name}"):
        return str(shared.push_to_hub(name, config=settings, private=private))


def from_pretrained(name: str | Path, trusted: Sequence[str] = (), **where: Any) -> DiscreteVAE:
    """Load a shared model; no foreign class is built, and no code of the source is executed.

    Args:
        name: A folder, which needs no network; the name of a model that comes with the package,
            such as ``mnist``; or ``user/name`` on the Hub.
        trusted: Packages beside dvae whose classes it may be made of.
        where: For the Hub: ``revision``, ``token``, ``cache_dir``, ``local_files_only``,
            ``force_download``.

    Returns:
        The model on the CPU.

    Raises:
        MissingExtra: It is on the Hub, and huggingface_hub is not installed.
        FileNotFoundError: There is no such folder, or a file in it is missing.
        ValueError: A file is damaged, a class is foreign, or weights and settings disagree.
    """
    text, folder = str(name), shared_folder(name)
    on_hub = text.count("/") == 1 and text[0] not in "./~" and not isinstance(name, Path)
    if not (folder.is_dir() or on_hub):
        known = "" if "/" in text else f"; the package has the models {', '.join(shipped())}"
        raise FileNotFoundError(f"there is no folder {text}{known}")
    try:
        if folder.is_dir():
            return read_shared(folder, trusted)
        model: DiscreteVAE = _mixin().from_pretrained(text, trusted=trusted, **where).model
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config.json of {text} is cut short or damaged: {error}") from error
    except AttributeError as error:  # the mixin takes any JSON for settings by name
        raise ValueError(f"config.json of {text} describes no model: {error}") from error
    return model


def _facts(
    figures: Mapping[str, float] | None,
    data: str,
    trusted: Sequence[str],
    license: str,
    *files: str | Path | None,
) -> Facts:
    paths = [None if file is None else Path(file) for file in files]
    return Facts(figures or {}, data, trusted, license, *paths)


def _shared(
    model: DiscreteVAE, name: str, config: Mapping[str, Any] | None, facts: Facts
) -> tuple[Any, dict[str, Any]]:
    mixin = _mixin()
    settings = config_of(model, facts.trusted) if config is None else dict(config)
    check_config(settings, model, facts.trusted)
    shared = mixin()
    shared.model = model
    shared.files, shared.license = facts.files, facts.license
    shared.card = model_card(name, model, settings, facts)
    return shared, settings


def _mixin() -> Any:
    require("huggingface_hub", "share")
    from dvae.sharing.hub import SharedModel

    return SharedModel
