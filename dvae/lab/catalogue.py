"""Every estimator there is, at every temperature that it takes, for codes of a given size."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator

import dvae.estimators
from dvae.estimators import REBAR, RELAX, Estimator, ExactEnumeration, PathwiseEstimator
from dvae.estimators.base import TEMPERATURE
from dvae.lab.exact import MAX_STATES

__all__ = ["Catalogue", "Entry", "catalogue"]

# Settings other than a temperature under which a class is another estimator.
_VARIANTS: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "GumbelSoftmax": [
        ("GumbelSoftmax", {"hard": False}),
        ("GumbelSoftmax (hard)", {"hard": True}),
    ],
    "Reinforce": [
        ("Reinforce", {"baseline": "none"}),
        ("Reinforce (mean)", {"baseline": "mean"}),
    ],
}

# Its temperature is learned together with its network.
_UNTEMPERED = (RELAX,)


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
        entries: In alphabetical order, temperatures rising.
        skipped: Why, by name.
    """

    entries: tuple[Entry, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


def catalogue(
    latents: int, codes: int, taus: Sequence[float], max_states: int = MAX_STATES
) -> Catalogue:
    """Build every estimator of `dvae.estimators`, a new one without a word about it here.

    An estimator with an argument ``tau`` or ``tau_backward`` is built at each temperature that it
    takes, the others once. The other arguments have their defaults.

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
    size = {"num_latents": latents, "num_codes": codes, "max_states": max_states}
    for cls in _classes():
        for name, variant in _VARIANTS.get(cls.__name__, [(cls.__name__, {})]):
            try:
                built = list(_build(cls, name, dict(variant), size, taus))
                for entry in built[:1]:
                    _try_out(entry.estimator, latents, codes)
            except ValueError as error:
                skipped[name] = str(error)
            else:
                entries += built
                if not built:
                    skipped[name] = "takes none of the temperatures"
    return Catalogue(tuple(entries), skipped)


def _classes() -> list[type[Estimator]]:
    names = sorted(dvae.estimators.__all__, key=str.lower)
    found = [getattr(dvae.estimators, name) for name in names]
    return [
        cls
        for cls in found
        if inspect.isclass(cls) and issubclass(cls, Estimator) and not inspect.isabstract(cls)
    ]


def _build(
    cls: type[Estimator],
    name: str,
    variant: dict[str, Any],
    size: Mapping[str, int],
    taus: Sequence[float],
) -> Iterator[Entry]:
    accepted = inspect.signature(cls).parameters
    arguments = variant | {key: value for key, value in size.items() if key in accepted}
    key = next((key for key in ("tau", "tau_backward") if key in accepted), None)
    if key is None or cls in _UNTEMPERED:
        yield Entry(name, None, cls(**arguments))
        return
    for tau in sorted(taus):
        try:
            estimator = cls(**arguments, **{key: tau})
        except ValueError:  # outside its range, such as ReinMax below 1
            continue
        if isinstance(estimator, REBAR):
            # It learns its temperature. Held, so that a row is about the tau that it names.
            estimator.log_tau.requires_grad_(False)
        yield Entry(name, tau, estimator)


def _try_out(estimator: Estimator, latents: int, codes: int) -> None:
    """Draw once: an estimator for binary variables only, or for few codes, says so."""
    if isinstance(estimator, PathwiseEstimator):
        estimator.sample(torch.zeros(1, latents, codes), Generator().manual_seed(0))
    elif not isinstance(estimator, ExactEnumeration):  # that one would visit all its codes
        estimator.expectation(
            lambda code: code.flatten(2).square().sum(-1),
            torch.zeros(1, latents, codes),
            Generator().manual_seed(0),
        )
