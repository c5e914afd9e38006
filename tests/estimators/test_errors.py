"""Bad input is refused in one line that names the value and what is allowed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dvae.estimators import (
    ARMS,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    DisARM,
    Estimator,
    ExactEnumeration,
    GappedStraightThrough,
    GumbelRao,
    MinimumVariance,
    PathwiseEstimator,
    Reinforce,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)
from tests.estimators.catalogue import everything, name, pathwise
from tests.laws import network


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StraightThrough(0.0), "tau must be a number > 0; got 0.0"),
        (lambda: StraightThrough(1e60), "tau must be within 3.4"),
        (lambda: GumbelRao(-1.0), "tau must be a number > 0; got -1.0"),
        (lambda: GumbelRao(1.0, 0), "GumbelRao.samples must be an integer >= 1; got 0"),
        (lambda: ReinMaxRao(0.0), "tau must be a number > 0; got 0.0"),
        (lambda: ReinMaxRao(1.0, 0), "ReinMaxRao.samples must be an integer >= 1; got 0"),
        (lambda: ReinMax(0.9), "tau must be a number >= 1; got 0.9"),
        (lambda: GappedStraightThrough(0.0), "tau must be a number > 0; got 0.0"),
        (lambda: GappedStraightThrough(1.0, -1.0), "gap must be a number >= 0; got -1.0"),
        (lambda: MinimumVariance(-0.1), r"t must be a number >= 0 and <= 1e\+08; got -0.1"),
        (lambda: Reinforce("median"), "baseline must be 'none' or 'mean'; got 'median'"),
        (lambda: Reinforce("mean", 1.5), "decay must be a number >= 0 and <= 1; got 1.5"),
        (lambda: RLOO(1), "RLOO.samples must be an integer >= 2; got 1"),
        (lambda: VIMCO(1), "VIMCO.samples must be an integer >= 2; got 1"),
        (lambda: ARMS(1), "ARMS.samples must be an integer >= 2; got 1"),
        (lambda: ARMS(2.5), "ARMS.samples must be an integer >= 2; got 2.5"),
        (lambda: REBAR(0.0), "tau must be a number > 0; got 0.0"),
        (lambda: RELAX(tau=0.0), "tau must be a number > 0; got 0.0"),
        (lambda: RELAX(0), "RELAX.num_latents must be an integer >= 1; got 0"),
        (lambda: RELAX(1, 1), "RELAX.num_codes must be an integer >= 2; got 1"),
        (lambda: RELAX(1, 2, 0), "RELAX.hidden must be an integer >= 1; got 0"),
        (lambda: ExactEnumeration(0), "max_states must be an integer >= 2; got 0"),
    ],
)
def test_constructors(make: Callable[[], Estimator], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def bad_logits(kind: str, codes: int) -> Tensor:
    logits = torch.zeros(2, 3, codes)
    logits[1, 2, 0] = {"nan": torch.nan, "infinite": torch.inf, "masked": -torch.inf}[kind]
    if kind == "masked":
        logits[1, 2] = -torch.inf
    return logits


@pytest.mark.parametrize("kind", ["nan", "infinite", "masked"])
@pytest.mark.parametrize("estimator", [*everything(3, 4), DisARM(), ARMS(), RELAX(3, 4)], ids=name)
def test_rows_without_a_finite_maximum(estimator: Estimator, kind: str) -> None:
    codes = 2 if isinstance(estimator, DisARM | ARMS) else 4
    logits = bad_logits(kind, codes)
    with pytest.raises(ValueError, match="finite maximum in every row") as caught:
        estimator.expectation(network(3, codes), logits)
    assert "\n" not in str(caught.value)
    if isinstance(estimator, PathwiseEstimator):
        with pytest.raises(ValueError, match="finite maximum"):
            estimator.train()(logits)
        with pytest.raises(ValueError, match="finite maximum"):
            estimator.eval()(logits)
        estimator.train()


@pytest.mark.parametrize("estimator", [*everything(3, 4), DisARM(), ARMS()], ids=name)
def test_one_category_is_none(estimator: Estimator) -> None:
    with pytest.raises(ValueError, match=r"at least 2 categories \(K >= 2\); got 1"):
        estimator.expectation(network(3, 1), torch.zeros(2, 3, 1))


@pytest.mark.parametrize("layer", pathwise(), ids=name)
def test_layers_refuse_scalars_and_integers(layer: PathwiseEstimator) -> None:
    with pytest.raises(ValueError, match="K >= 2"):
        layer(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"floating-point; got torch.int64"):
        layer(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("estimator", [DisARM(), ARMS()], ids=name)
def test_binary_only(estimator: Estimator) -> None:
    message = f"{type(estimator).__name__} is for binary variables, K = 2 .*; got K = 3"
    with pytest.raises(ValueError, match=message):
        estimator.expectation(network(2, 3), torch.zeros(2, 2, 3))


def test_enumeration_past_its_limit() -> None:
    with pytest.raises(ValueError, match=r"10\^20 = 100000000000000000000 .*max_states=4096"):
        ExactEnumeration().expectation(network(20, 10), torch.zeros(2, 20, 10))
    ExactEnumeration(8).expectation(network(3, 2), torch.zeros(2, 3, 2))
    with pytest.raises(ValueError, match=r"2\^3 = 8 states, above max_states=7"):
        ExactEnumeration(7).expectation(network(3, 2), torch.zeros(2, 3, 2))


@pytest.mark.parametrize(
    "estimator", [Reinforce(), RLOO(), DisARM(), ARMS(), REBAR(), ExactEnumeration()], ids=name
)
def test_f_of_another_shape(estimator: Estimator) -> None:
    with pytest.raises(ValueError, match=r"one value for each code, \(\d+, 2\); got"):
        estimator.expectation(lambda code: code.sum(), torch.zeros(2, 3, 2))
