"""What is measured of estimators whose bias and variance are known, by enumeration or by law."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

from dvae.estimators import (
    ARMS,
    REBAR,
    RELAX,
    RLOO,
    ZGR,
    DisARM,
    ExactEnumeration,
    GumbelRao,
    GumbelSoftmax,
    MeanField,
    Reinforce,
    ReinMax,
    StraightThrough,
)
from dvae.lab import adapt, exact_gradient, make_function, make_logits, measure
from tests.estimators.catalogue import name
from tests.laws import FAILURE_RATE, all_tuples, assert_mean, fix, gradients, probability

SCORE = "dvae.estimators.score_function"

# Two-sided, of a normal.
WIDTH = float(stats.norm.isf(FAILURE_RATE / 2))

# Of a sum of weighted chi-squares with a given mean a single one has the longest tail.
NOISE_LIMIT = float(stats.chi2.isf(FAILURE_RATE, 1)) ** 0.5


def clearly_above(high, low, value):
    """Whether a value of one measurement is above that of another by more than the errors."""
    a, b = (getattr(m, value) for m in (high, low))
    errors = (getattr(m, f"{value}_error") for m in (high, low))
    return a - b > WIDTH * math.hypot(*errors)


def alike(first, second, value):
    return not (clearly_above(first, second, value) or clearly_above(second, first, value))


def problem(function, latents=2, codes=3, logits="random"):
    return make_function(function, latents, codes), make_logits(logits, latents, codes, 1).double()


def enumerated(monkeypatch, owner, estimator, f, logits):
    """Return the squared bias and the variance, summed over all draws of one sample."""
    index = all_tuples(logits.shape[-1], logits.shape[-2])
    weight = probability(logits[0], index)
    with monkeypatch.context() as patch:
        fix(patch, owner, "draw_index", index.unsqueeze(0) if owner == SCORE else index)
        _, gradient = gradients(estimator, f, logits[0], len(index))
    mean = torch.einsum("n,nlk->lk", weight, gradient)
    bias = (mean - exact_gradient(f, logits)[0]).square().sum()
    return bias.item(), (weight * (gradient - mean).square().sum((1, 2))).sum().item()


@pytest.mark.parametrize("kind", ["uniform", "peaked"])
@pytest.mark.parametrize(
    ("owner", "estimator"),
    [(SCORE, Reinforce("none")), (None, StraightThrough()), (None, ReinMax(1.3)), (None, ZGR())],
    ids=name,
)
def test_bias_and_variance_are_the_enumerated_ones(monkeypatch, owner, estimator, kind):
    f, logits = problem("network", logits=kind)
    bias, variance = enumerated(monkeypatch, owner or estimator, estimator, f, logits)
    monkeypatch.setattr("dvae.lab.measurement._BLOCKS", 2)
    # Few draws many times: the noise that is taken out of the bias is larger than the bias.
    measured = [measure(estimator, f, logits, 5) for _ in range(300)]
    assert_mean(torch.tensor([m.variance for m in measured]), variance)
    assert_mean(torch.tensor([m.bias_squared for m in measured]), bias)
    assert_mean(torch.tensor([m.bias**2 - m.bias_noise**2 for m in measured]), bias)


@pytest.mark.parametrize("estimator", [Reinforce("none"), StraightThrough()], ids=name)
def test_the_standard_errors_are_those_of_repeated_measurements(estimator):
    f, logits = problem("network")
    measured = [measure(estimator, f, logits, 320) for _ in range(40)]
    for value in ("variance", "cosine_single", "bias_squared"):
        values = torch.tensor([getattr(m, value) for m in measured])
        stated = torch.tensor([getattr(m, f"{value}_error") for m in measured]).square().mean()
        # 40 repetitions know a standard deviation to 11%; where there is no bias the jackknife
        # is on the safe side by up to the square root of 2.
        assert 0.7 < stated.sqrt() / values.std() < 1.7


@pytest.mark.parametrize(
    ("estimator", "codes"),
    [
        (Reinforce("none"), 3),
        (Reinforce("mean"), 3),
        (RLOO(), 3),
        (REBAR(0.5), 3),
        (RELAX(2, 3), 3),
        (DisARM(), 2),
        (ARMS(), 2),
    ],
    ids=name,
)
def test_no_bias_is_found_where_there_is_none(estimator, codes):
    f, logits = problem("network", codes=codes)
    adapt(estimator, f, logits, 20)
    found = measure(estimator, f, logits, 20_000)
    assert found.bias < NOISE_LIMIT * found.bias_noise
    assert found.bias_squared < NOISE_LIMIT**2 * found.bias_noise**2
    assert found.bias_noise < 0.2 * found.exact_norm
    assert found.cosine > 0.99


@pytest.mark.parametrize("estimator", [ReinMax(), ZGR()], ids=name)
@pytest.mark.parametrize(("function", "exact"), [("quadratic", True), ("cubic", False)])
def test_second_order_is_exact_on_quadratics_only(estimator, function, exact):
    f, logits = problem(function)
    found = measure(estimator, f, logits, 40_000)
    assert (found.bias < NOISE_LIMIT * found.bias_noise) == exact
    assert found.unbiased == exact


@pytest.mark.parametrize(("function", "exact"), [("linear", True), ("quadratic", False)])
def test_straight_through_is_exact_on_linear_functions_only(function, exact):
    f, logits = problem(function)
    found = measure(StraightThrough(), f, logits, 40_000)
    assert (found.bias <= NOISE_LIMIT * found.bias_noise + 1e-6) == exact


def test_gumbel_softmax_trades_bias_for_variance():
    f, logits = problem("network", latents=3, codes=4)
    found = [measure(GumbelSoftmax(tau), f, logits, 40_000) for tau in (2.0, 1.0, 0.5, 0.25)]
    for hot, cold in pairwise(found):
        assert clearly_above(hot, cold, "bias_squared")
        assert clearly_above(cold, hot, "variance")
        assert clearly_above(cold, hot, "cosine")
        assert clearly_above(hot, cold, "cosine_single")


def test_gumbel_rao_has_the_bias_of_the_hard_layer_and_less_variance():
    f, logits = problem("network")
    hard = measure(GumbelSoftmax(0.5, hard=True), f, logits, 40_000)
    rao = measure(GumbelRao(0.5), f, logits, 40_000)
    assert alike(hard, rao, "bias_squared")
    assert clearly_above(hard, rao, "variance")


def test_without_noise_there_is_no_variance():
    f, logits = problem("network")
    found = measure(ExactEnumeration(), f, logits, 2)
    assert found.bias < 1e-12
    assert found.variance < 1e-24
    assert found.cosine == pytest.approx(1)
    assert found.cosine_single == pytest.approx(1)
    assert found.unbiased
    assert measure(MeanField(), f, logits, 50).variance < 1e-24


def test_numbers_do_not_change_with_the_batch_size_nor_with_the_chunks(monkeypatch):
    f, logits = problem("network")
    one = measure(MeanField(), f, logits, 4)
    three = measure(MeanField(), f, logits.expand(3, -1, -1), 4)
    for value in ("bias", "exact_norm", "cosine", "cosine_single"):
        assert getattr(one, value) == pytest.approx(getattr(three, value))
    noisy = measure(RLOO(), f, logits.expand(3, -1, -1), 20_000)
    single = measure(RLOO(), f, logits, 20_000)
    assert alike(noisy, single, "variance")
    # The generator's stream is cut elsewhere, so the noise is the same only in distribution.
    monkeypatch.setattr("dvae.lab.measurement.CHUNK", 100)
    chunked = measure(RLOO(), f, logits, 20_000)
    assert chunked.draws == single.draws == 20_000
    assert alike(chunked, single, "variance")


def test_a_gradient_that_is_zero_has_no_direction():
    _, logits = problem("network")
    found = measure(RLOO(), lambda code: 0 * code.flatten(2).sum(-1), logits, 50)
    assert found.exact_norm == found.bias == found.variance == found.cosine_single == 0
    assert found.cosine != found.cosine
    assert found.relative_bias != found.relative_bias


@pytest.mark.parametrize(
    "estimator", [Reinforce(), REBAR(), RELAX(2, 3), GumbelSoftmax()], ids=name
)
def test_measuring_leaves_no_trace(estimator):
    f, logits = problem("network")
    before = copy.deepcopy(estimator.state_dict())
    measure(estimator, f, logits, 100)
    for key, value in estimator.state_dict().items():
        assert torch.equal(value, before[key])
    assert estimator.training
    assert all(p.requires_grad and p.grad is None for p in estimator.parameters())


def test_the_same_generator_gives_the_same_numbers():
    f, logits = problem("network")
    runs = [measure(REBAR(), f, logits, 100, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("estimator", [Reinforce("mean"), REBAR(0.5)], ids=name)
def test_adapting_lowers_the_variance(estimator):
    base, logits = problem("network")

    def f(code):
        return 3 * base(code) - 20

    fresh = measure(estimator, f, logits, 4000)
    adapt(estimator, f, logits, 100)
    adapted = measure(estimator, f, logits, 4000)
    assert clearly_above(fresh, adapted, "variance")


def test_one_draw_is_refused():
    f, logits = problem("network")
    with pytest.raises(ValueError, match="draws must be an integer >= 2; got 1"):
        measure(RLOO(), f, logits, 1)
