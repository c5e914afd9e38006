"""Settings as the command line takes them, where they differ, and short names made of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvae.names import full_path

__all__ = ["ABSENT", "differing_settings", "flatten", "labels", "show"]

ABSENT = "—"

# The parts of a class in a config; its settings are keys below that of the class itself.
_CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}

# What a reader looks for first, where several keys tell the runs apart equally well.
_SECTIONS = ("anneal", "model", "data", "trainer")

_LONGEST_VALUE = 28


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested settings into dotted keys, those of the command line.

    A class stands at its own key and its settings right below: ``--anneal.tau Cosine
    --anneal.tau.end 0.1``.

    Args:
        config: As read from YAML.

    Returns:
        Value by key. A list of plain values is one value; its classes have keys of their own.

    Example:
        >>> flatten({"tau": {"class_path": "dvae.schedules.Linear", "init_args": {"end": 0.1}}})
        {'tau': 'dvae.schedules.Linear', 'tau.end': 0.1}
    """
    return dict(_walk(config, ""))


def _walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    below = f"{key}." if key else ""
    if isinstance(value, Mapping) and "class_path" in value and value.keys() <= _CLASS_KEYS and key:
        yield key, full_path(str(value["class_path"]))
        for part in ("init_args", "dict_kwargs"):
            if value.get(part):
                yield from _walk(value[part], key)
    elif isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _walk(inner, f"{below}{name}")
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{below}{number}")
    else:
        yield key, value


def differing_settings(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """List the keys in which the runs differ.

    Args:
        runs: Settings of each run, by dotted key.

    Returns:
        The value of each run, as text, by key; `ABSENT` where a run has no such key.
    """
    keys = sorted({key for settings in runs for key in settings}, key=_order)
    differing = {}
    for key in keys:
        # repr tells 1 from True and from "1", and nan is like nan.
        kinds = {repr(settings[key]) if key in settings else ABSENT for settings in runs}
        if len(kinds) > 1:
            differing[key] = _texts([settings.get(key, _Absent) for settings in runs])
    return differing


class _Absent:
    """Stands for the value of a key that is not there."""


def _texts(values: Sequence[Any]) -> list[str]:
    """Write values briefly, unless two that differ would then look alike."""
    for write in (show, repr):
        texts = [ABSENT if value is _Absent else write(value) for value in values]
        kinds = {repr(value) for value in values}
        if len(set(texts)) == len(kinds):
            break
    return texts


def show(value: Any) -> str:
    """Write a value briefly: a class by its name, a float in six digits.

    Args:
        value: As read from YAML.
    """
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and re.fullmatch(r"(\w+\.)+[A-Z]\w*", value):
        return value.rsplit(".", 1)[-1]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def labels(folders: Sequence[Path], differing: Mapping[str, Sequence[str]]) -> list[str]:
    """Make a short name for each run, no two alike, of as few settings as tell them apart.

    Args:
        folders: Folders of the runs, no two alike.
        differing: The value of each run by key, as `differing_settings` has them.

    Returns:
        Such as ``tau.end=0.3``; where the settings do not tell them apart, with the end of the
        folder's path.
    """
    if len(folders) == 1 or not differing:
        return _tails(folders)
    short = _short_keys(list(differing))
    columns = {
        key: [f"{short[key]}={_cut(value)}" for value in values]
        for key, values in differing.items()
    }
    for number, value in enumerate(differing.get("model.prior", ())):
        if value in (ABSENT, "null"):
            columns["model.prior"][number] = f"{short['model.prior']}=UniformPrior"
    # What a reader wants to know of each, wherever it differs.
    chosen = [key for key in ("model", "model.prior") if len(set(columns.get(key, ()))) > 1]

    def groups(keys: Sequence[str]) -> list[tuple[str, ...]]:
        return list(zip(*(columns[key] for key in keys), strict=True)) or [()] * len(folders)

    def parts(keys: Sequence[str]) -> int:
        return len(set(groups(keys)))

    while True:
        best = max(columns, key=lambda key: parts([*chosen, key]))
        if parts([*chosen, best]) <= max(parts(chosen), 1):
            break
        chosen.append(best)
    names = [", ".join(group) for group in groups(chosen)]
    if len(set(names)) == len(names):
        return names
    return [
        f"{name} ({tail})" if names.count(name) > 1 else name
        for name, tail in zip(names, _tails(folders), strict=True)
    ]


def _order(key: str) -> tuple[int, str]:
    section = key.split(".", 1)[0]
    return (_SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS), key)


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last two parts of each key, or more where those are another key's too."""
    short = {}
    for key in keys:
        parts = key.split(".")
        for count in range(2, len(parts) + 1):
            tail = ".".join(parts[-count:])
            if sum(f".{other}".endswith(f".{tail}") for other in keys) == 1:
                break
        short[key] = ".".join(parts[-count:]) if len(parts) > 1 else key
    return short


def _tails(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell all of them apart."""
    depth = max(len(folder.parts) for folder in folders)
    for count in range(1, depth + 1):
        tails = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(tails)) == len(tails):
            return tails
    return [str(folder) for folder in folders]


def _cut(text: str) -> str:
    # The end of a path says more than its beginning.
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_VALUE else f"…{text[1 - _LONGEST_VALUE :]}"
