"""What an estimator's class says of itself, and how it is built from that to be tried."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from dvae.estimators.base import Estimator

__all__ = ["About", "trials"]


@dataclass(frozen=True)
class About:
    """What tables, benchmarks and the gradient lab need to know of an estimator.

    Attributes:
        year: Year of the paper, if there is one.
        source: arXiv numbers, or authors where there are none.
        bias: ``exact``, ``unbiased`` or ``biased``, and perhaps more after a semicolon or comma.
        temperature: The constructor's argument that is a temperature to choose. An estimator
            without such an argument has none.
        variants: Arguments under which the class is another estimator, by a name for each, which
            is empty for the usual one.
    """

    year: int | None = None
    source: str = "-"
    bias: str = "biased"
    temperature: str | None = "tau"
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})


def trials(
    cls: "type[Estimator]", latents: int, codes: int, **arguments: Any
) -> "dict[str, Estimator]":
    """Build all variants of an estimator for codes of a given size.

    Args:
        cls: Class of the estimator.
        latents: L.
        codes: K.
        arguments: Other settings; those that the class has no argument for are left out.

    Returns:
        The estimators by name: that of the class, with that of the variant in brackets.

    Raises:
        ValueError: The class refuses a setting, or codes of this size.
    """
    given = {"num_latents": latents, "num_codes": codes, **arguments}
    given = {key: given[key] for key in given if key in inspect.signature(cls).parameters}
    found = {}
    for name, variant in cls.about.variants.items():
        estimator = cls(**given | dict(variant))
        # No example, so no work: one for other codes refuses these all the same.
        estimator.expectation(lambda code: code.flatten(2).sum(2), torch.zeros(0, latents, codes))
        found[f"{cls.__name__} ({name})" if name else cls.__name__] = estimator
    return found
