"""Every estimator there is, at every temperature that it takes, for codes of a given size."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from dvae.estimators import ESTIMATORS, Estimator
from dvae.estimators.about import trials
from dvae.estimators.base import TEMPERATURE
from dvae.lab.exact import MAX_STATES

__all__ = ["Catalogue", "Entry", "catalogue"]


@dataclass(frozen=True, eq=False)
class Entry:
    """An estimator to measure.

    Attributes:
        name: The same at every temperature.
        tau: The temperature, or ``None`` where there is none to choose.
        estimator: Built.
    """

    name: str
    tau: float | None
    estimator: Estimator


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What can be measured and what not.

    Attributes:
        entries: Entries in alphabetical order, temperatures rising.
        skipped: Why, by name.
    """

    entries: tuple[Entry, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


def catalogue(
    latents: int, codes: int, taus: Sequence[float], max_states: int = MAX_STATES
) -> Catalogue:
    """Build every estimator of `dvae.estimators` in all its variants; see `About`.

    One with a temperature to choose is built at each that it takes, the others once. The other
    arguments have their defaults.

    Args:
        latents: L.
        codes: K.
        taus: Temperatures, each above 0.
        max_states: The most codes for `ExactEnumeration`.

    Returns:
        The estimators, and those that do not take codes of this size.

    Raises:
        ValueError: A temperature is not a number above 0.
    """
    for tau in taus:
        TEMPERATURE.check("tau", tau)
    entries: list[Entry] = []
    skipped: dict[str, str] = {}
    for cls in ESTIMATORS.values():
        try:
            built = trials(cls, latents, codes, max_states=max_states)
        except ValueError as error:
            skipped[cls.__name__] = str(error)
            continue
        if cls.about.temperature in inspect.signature(cls).parameters:
            found = _at_temperatures(cls, latents, codes, taus)
            if not found:
                skipped[cls.__name__] = "takes none of the temperatures"
        else:
            found = [Entry(name, None, estimator) for name, estimator in built.items()]
        entries += sorted(found, key=lambda entry: entry.name)
    return Catalogue(tuple(entries), skipped)


def _at_temperatures(
    cls: type[Estimator], latents: int, codes: int, taus: Sequence[float]
) -> list[Entry]:
    entries = []
    for tau in sorted(taus):
        try:
            built = trials(cls, latents, codes, **{str(cls.about.temperature): tau})
        except ValueError:  # outside its range, such as ReinMax below 1
            continue
        for name, estimator in built.items():
            # A temperature that it learns is held, so that a row is about the tau that it names.
            if isinstance(learned := getattr(estimator, "log_tau", None), nn.Parameter):
                learned.requires_grad_(False)
            entries.append(Entry(name, tau, estimator))
    return entries
