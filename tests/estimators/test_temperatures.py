"""What is measured over a grid of temperatures is what enumeration says."""

import pytest
import torch

from dvae.estimators import (
    DecoupledGumbelSoftmax,
    GumbelRao,
    GumbelSoftmax,
    PathwiseEstimator,
    ReinMax,
    StraightThrough,
)
from dvae.estimators.temperatures import gradient_moments
from dvae.lab import make_function, measure
from tests.estimators.catalogue import everything, name
from tests.laws import (
    all_tuples,
    assert_mean,
    assert_within,
    exact_gradient,
    fix,
    gradients,
    network,
    peaked_logits,
    probability,
)

LATENTS, CODES = 2, 3
TAUS = [1.0, 1.4, 2.0]
FAMILY = [StraightThrough(), ReinMax()]
NOISY = [GumbelSoftmax(hard=True), GumbelSoftmax(), GumbelRao(samples=2)]


def logits():
    return peaked_logits(LATENTS, CODES, 1.0)


def quadratic():
    return make_function("quadratic", LATENTS, CODES)


def moments(estimator, f, count, taus=TAUS, key="tau"):
    wide = logits().expand(count, LATENTS, CODES)
    return gradient_moments(estimator, key, taus, f, wide, torch.Generator().manual_seed(1))


def enumerated(monkeypatch, estimator, f):
    """Return squared bias and variance of an estimator whose only noise is the draw."""
    index = all_tuples(CODES, LATENTS)
    p = probability(logits(), index).view(-1, 1, 1)
    truth = exact_gradient(f, logits())
    with monkeypatch.context() as patch:
        fix(patch, estimator, "draw_index", index)
        _, found = gradients(estimator, f, logits(), len(index))
    mean = (p * found).sum(0)
    return (mean - truth).square().sum(), (p * (found - mean).square()).sum()


@pytest.mark.parametrize("estimator", FAMILY, ids=name)
def test_bias_and_variance_are_the_exact_ones(monkeypatch, estimator):
    # Of a quadratic f the reference is exact.
    found = moments(estimator, quadratic(), 20_000)
    for at, tau in enumerate(TAUS):
        estimator.tau.fill_(tau)
        bias2, variance = enumerated(monkeypatch, estimator, quadratic())
        assert_mean(found.bias2[at], bias2)
        assert_mean(found.variance[at], variance)
        assert_mean(found.error(50)[at], bias2 + variance / 50)


@pytest.mark.parametrize("estimator", NOISY, ids=name)
def test_bias_and_variance_are_those_that_the_lab_finds(estimator):
    found = moments(estimator, quadratic(), 20_000, [0.5, 1.0])
    for at, tau in enumerate((0.5, 1.0)):
        estimator.tau.fill_(tau)
        lab = measure(estimator, quadratic(), logits().unsqueeze(0), 40_000)
        for ours, theirs, error in (
            (found.bias2[at], lab.bias_squared, lab.bias_squared_error),
            (found.variance[at], lab.variance, lab.variance_error),
        ):
            both = (ours.double().var() / len(ours) + error**2).sqrt()
            assert_within(ours.double().mean(), torch.tensor(theirs).double(), both, 31)


def test_the_reference_is_the_exact_gradient():
    found = moments(StraightThrough(), quadratic(), 20_000)
    truth = exact_gradient(quadratic(), logits())
    assert_mean(found.reference, truth.square().sum())
    # Straight-through at 1 is exact of a linear f: then all of its mean is the gradient.
    linear = make_function("linear", LATENTS, CODES)
    assert_mean(
        moments(StraightThrough(), linear, 20_000).projection[0],
        exact_gradient(linear, logits()).square().sum(),
    )


def test_of_any_f_another_reference_serves(monkeypatch):
    # ReinMax at 1 is the default reference, whatever f: of itself it finds no bias.
    f = network(LATENTS, CODES)
    assert_mean(moments(ReinMax(), f, 20_000).bias2[0], 0.0)
    estimator = StraightThrough()
    generator = torch.Generator().manual_seed(2)
    wide = logits().expand(20_000, LATENTS, CODES)
    found = gradient_moments(estimator, "tau", [1.0], f, wide, generator, StraightThrough())
    assert_mean(found.bias2[0], 0.0)


@pytest.mark.parametrize(
    ("estimator", "key", "codes"),
    [
        (StraightThrough(), "tau", 2),
        (GumbelSoftmax(hard=True), "tau", 2),
        (DecoupledGumbelSoftmax(), "tau_backward", 2),
        (GumbelSoftmax(), "tau", 8),
        (DecoupledGumbelSoftmax(), "tau_forward", 8),
    ],
    ids=name,
)
def test_f_is_asked_at_two_codes_where_the_temperature_changes_none(estimator, key, codes):
    asked = []

    def f(code):
        asked.append(len(code))
        return quadratic()(code)

    moments(estimator, f, 50, key=key)
    assert asked == [codes]


@pytest.mark.parametrize("estimator", everything(3, 2), ids=name)
def test_every_estimator_with_a_temperature_is_measured_and_left_alone(estimator):
    keys = [key for key, _ in estimator.named_buffers() if key.startswith("tau")]
    if not keys or not isinstance(estimator, PathwiseEstimator):
        return
    before = {key: value.clone() for key, value in estimator.state_dict().items()}
    state = torch.get_rng_state()
    f, wide = network(3, 2), peaked_logits(3, 2, 1.0).expand(5, 3, 2)
    for key in keys:
        found = gradient_moments(estimator, key, TAUS, f, wide, torch.Generator())
        assert found.bias2.shape == found.variance.shape == (3, 5)
        assert torch.isfinite(found.error(50)).all() and found.square.min() >= 0
    assert torch.equal(torch.get_rng_state(), state)
    assert before.keys() == estimator.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in estimator.state_dict().items())
