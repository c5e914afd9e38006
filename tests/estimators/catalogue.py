"""All estimators there are, built for a given size; a new one is among them by itself."""

from contextlib import suppress

from dvae.estimators import ESTIMATORS, Estimator, PathwiseEstimator
from dvae.estimators.about import trials

__all__ = ["everything", "name", "named", "pathwise", "score"]


def name(value: object) -> str:
    """Name an estimator in the id of a test."""
    if not isinstance(value, Estimator):
        return str(value)
    return repr(value).splitlines()[0].removesuffix("(")


def named(latents: int = 3, codes: int = 4) -> dict[str, Estimator]:
    """Build every estimator that takes codes of this size, in all its variants."""
    found: dict[str, Estimator] = {}
    for cls in ESTIMATORS.values():
        for tau in (1.3, 0.7):  # some take none below 1
            with suppress(ValueError):
                found |= trials(cls, latents, codes, tau=tau, samples=3)
    return found


def everything(latents: int = 3, codes: int = 4) -> list[Estimator]:
    return list(named(latents, codes).values())


def pathwise() -> list[PathwiseEstimator]:
    return [e for e in everything() if isinstance(e, PathwiseEstimator)]


def score(latents: int = 3, codes: int = 4) -> list[Estimator]:
    """List the estimators that need f."""
    return [e for e in everything(latents, codes) if not isinstance(e, PathwiseEstimator)]
