"""Which estimator varies less than which, at the sizes where theory says so."""

import pytest
import torch

from dvae.estimators import (
    ARMS,
    RLOO,
    DisARM,
    Estimator,
    GumbelRao,
    GumbelSoftmax,
    MeanField,
    Reinforce,
    ReinMax,
    ReinMaxRao,
)
from tests.estimators.catalogue import name
from tests.laws import (
    assert_same_mean,
    assert_smaller,
    gradients,
    network,
    peaked_logits,
    squared_deviation,
)


@pytest.mark.parametrize(
    ("calm", "wild", "codes"),
    [
        # Not RLOO(2): with two draws and f near 0 a baseline of one draw does harm.
        (RLOO(4), Reinforce("none"), 3),
        (RLOO(8), RLOO(2), 3),
        (GumbelRao(0.3, 20), GumbelSoftmax(0.3, hard=True), 3),
        (GumbelRao(0.3, 20), GumbelRao(0.3, 2), 3),
        (ReinMaxRao(0.5, 20), ReinMaxRao(0.5, 1), 3),
        (MeanField(), ReinMax(), 3),
        (DisARM(), RLOO(2), 2),
        (ARMS(4), RLOO(4), 2),
    ],
    ids=name,
)
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_the_order_of_variances(calm: Estimator, wild: Estimator, codes: int, gap: float) -> None:
    torch.manual_seed(0)
    f, logits = network(2, codes), peaked_logits(2, codes, gap)
    deviations = [squared_deviation(gradients(e, f, logits, 20_000)[1]) for e in (calm, wild)]
    assert_smaller(*deviations)


@pytest.mark.parametrize("gap", [-2.0, 0.0, 1.0])
def test_arms_with_two_samples_is_disarm(gap: float) -> None:
    torch.manual_seed(1)
    f, logits = network(2, 2), peaked_logits(2, 2, gap)
    _, arms = gradients(ARMS(2), f, logits, 60_000)
    _, disarm = gradients(DisARM(), f, logits, 60_000)
    assert_same_mean(arms, disarm)
    assert_same_mean(arms.square(), disarm.square())


def test_a_running_mean_as_baseline_lowers_the_variance() -> None:
    torch.manual_seed(2)
    base, logits = network(2, 3), peaked_logits(2, 3, 0.0)

    def f(code: torch.Tensor) -> torch.Tensor:
        return base(code) - 50

    estimator = Reinforce("mean")
    for _ in range(30):
        gradients(estimator, f, logits, 100)
    with_mean = squared_deviation(gradients(estimator, f, logits, 20_000)[1])
    without = squared_deviation(gradients(Reinforce("none"), f, logits, 20_000)[1])
    assert_smaller(with_mean, without)
    assert with_mean.mean() < 0.05 * without.mean()
