"""All estimators, built with their defaults or for a given size."""

from dvae.estimators import (
    ARMS,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    ZGR,
    DecoupledGumbelSoftmax,
    DisARM,
    Estimator,
    ExactEnumeration,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    MeanField,
    MinimumVariance,
    PathwiseEstimator,
    Reinforce,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)

__all__ = ["everything", "name", "pathwise", "score"]


def name(value: object) -> str:
    """Name an estimator in the id of a test."""
    if not isinstance(value, Estimator):
        return str(value)
    return repr(value).splitlines()[0].removesuffix("(")


def pathwise() -> list[PathwiseEstimator]:
    return [
        GumbelSoftmax(0.7),
        GumbelSoftmax(0.7, hard=True),
        DecoupledGumbelSoftmax(),
        StraightThrough(),
        GumbelRao(0.5, 3),
        GappedStraightThrough(),
        ReinMax(1.3),
        ZGR(),
        MinimumVariance(),
        ReinMaxRao(0.5, 3),
        MeanField(),
    ]


def score(latents: int = 3, codes: int = 4) -> list[Estimator]:
    """List the estimators that need f; the binary ones only for two codes."""
    binary = [DisARM(), ARMS(2), ARMS(5)] if codes == 2 else []
    small = [ExactEnumeration()] if codes**latents <= 4096 else []
    return [
        Reinforce("none"),
        Reinforce(),
        RLOO(),
        VIMCO(),
        REBAR(),
        RELAX(latents, codes),
        RELAX(latents, codes, tau=None),
        *binary,
        *small,
    ]


def everything(latents: int = 3, codes: int = 4) -> list[Estimator]:
    return [*pathwise(), *score(latents, codes)]
