"""Straight-through and what came after: identities over all K draws, weighted by pi."""

import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dvae.estimators import (
    ZGR,
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    MeanField,
    MinimumVariance,
    PathwiseEstimator,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)
from tests.estimators.catalogue import name
from tests.laws import (
    FAILURE_RATE,
    assert_chi_square,
    assert_mean,
    assert_same_mean,
    exact_gradient,
    fix,
    gradients,
)

K = 5
LOGITS = torch.tensor([[0.3, -1.0, 2.0, 0.0, -0.4]], dtype=torch.float64)
PI = LOGITS.softmax(-1).squeeze(0)


def polynomial(degree: int):
    generator = torch.Generator().manual_seed(degree)
    first, second, third = (
        torch.randn((K,) * order, generator=generator, dtype=torch.float64) for order in (1, 2, 3)
    )

    def f(code: Tensor) -> Tensor:
        z = code.squeeze(2)
        value = z @ first
        if degree > 1:
            value = value + torch.einsum("sbi,sbj,ij->sb", z, z, second)
        if degree > 2:
            value = value + torch.einsum("sbi,sbj,sbk,ijk->sb", z, z, z, third)
        return value

    return f


def each_draw(monkeypatch: pytest.MonkeyPatch, estimator: PathwiseEstimator, f) -> Tensor:
    """Return the gradient at each of the K draws, ``(K, K)``."""
    fix(monkeypatch, estimator, "draw_index", torch.arange(K).unsqueeze(1))
    _, gradient = gradients(estimator, f, LOGITS, K)
    return gradient.squeeze(1)


def bias(monkeypatch: pytest.MonkeyPatch, estimator: PathwiseEstimator, degree: int) -> float:
    f = polynomial(degree)
    mean = PI @ each_draw(monkeypatch, estimator, f)
    return float((mean - exact_gradient(f, LOGITS).squeeze(0)).abs().max())


@pytest.mark.parametrize(
    ("estimator", "exact"),
    [
        (StraightThrough(), 1),
        (MinimumVariance(0.0), 1),
        (MinimumVariance(0.5), 1),
        (MinimumVariance(30.0), 1),
        (MinimumVariance(1e8), 2),
        (ReinMax(), 2),
        (ZGR(), 2),
    ],
    ids=name,
)
def test_exact_up_to_a_degree_and_off_past_it(
    monkeypatch: pytest.MonkeyPatch, estimator: PathwiseEstimator, exact: int
) -> None:
    for degree in range(1, exact + 1):
        assert bias(monkeypatch, estimator, degree) < 1e-6
    assert bias(monkeypatch, estimator, exact + 1) > 1e-2


@pytest.mark.parametrize("estimator", [StraightThrough(0.5), ReinMax(1.3)], ids=name)
def test_other_temperatures_are_biased(
    monkeypatch: pytest.MonkeyPatch, estimator: PathwiseEstimator
) -> None:
    assert bias(monkeypatch, estimator, 1 if isinstance(estimator, StraightThrough) else 2) > 1e-2


def test_zgr_is_reinmax_draw_by_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    f = polynomial(3)
    zgr, reinmax = (each_draw(monkeypatch, estimator, f) for estimator in (ZGR(), ReinMax(1.0)))
    torch.testing.assert_close(zgr, reinmax)


def test_minimum_variance_at_zero_is_straight_through(monkeypatch: pytest.MonkeyPatch) -> None:
    f = polynomial(3)
    torch.testing.assert_close(
        each_draw(monkeypatch, MinimumVariance(0.0), f),
        each_draw(monkeypatch, StraightThrough(), f),
    )


def jacobian(p: Tensor) -> Tensor:
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


def test_gapped_straight_through_is_the_softmax_of_the_shifted_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    f, theta = polynomial(2), LOGITS.squeeze(0)
    found = each_draw(monkeypatch, GappedStraightThrough(0.7, 1.5), f)
    code = torch.eye(K, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(f(code.view(1, K, 1, K)).sum(), code)
    for drawn in range(K):
        shifted = theta - (theta + 1.5 - theta.max()).relu()
        shifted[drawn] = theta.max()
        others = [k for k in range(K) if k != drawn]
        assert (shifted[drawn] - shifted[others] >= 1.5 - 1e-12).all()
        expected = jacobian((shifted / 0.7).softmax(-1)) @ g[drawn] / 0.7
        torch.testing.assert_close(found[drawn], expected)


def test_temperatures_in_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    f, theta = polynomial(2), LOGITS.squeeze(0)
    straight = each_draw(monkeypatch, StraightThrough(0.5), f)
    reinmax = each_draw(monkeypatch, ReinMax(2.0), f)
    code = torch.eye(K, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(f(code.view(1, K, 1, K)).sum(), code)
    for drawn in range(K):
        expected = jacobian((theta / 0.5).softmax(-1)) @ g[drawn] / 0.5
        torch.testing.assert_close(straight[drawn], expected)
        midpoint = (code[drawn].detach() + (theta / 2).softmax(-1)) / 2
        expected = 2 * jacobian(midpoint) @ g[drawn] - jacobian(PI) @ g[drawn] / 2
        torch.testing.assert_close(reinmax[drawn], expected)


def at_one_draw(
    monkeypatch: pytest.MonkeyPatch, estimator: PathwiseEstimator, drawn: int, batch: int
) -> Tensor:
    fix(monkeypatch, estimator, "draw_index", torch.full((batch, 1), drawn))
    return gradients(estimator, polynomial(2), LOGITS, batch)[1].squeeze(1)


@pytest.mark.parametrize("drawn", [1, 2])
def test_gumbel_rao_tends_to_zgr(monkeypatch: pytest.MonkeyPatch, drawn: int) -> None:
    torch.manual_seed(0)
    found = at_one_draw(monkeypatch, GumbelRao(0.002, 50), drawn, 4000)
    expected = each_draw(monkeypatch, ZGR(), polynomial(2))[drawn]
    # The limit is reached to O(tau); the interval is wider than that.
    assert_mean(found, expected)


@pytest.mark.parametrize("drawn", [1, 2])
def test_reinmax_rao_tends_to_its_limit(monkeypatch: pytest.MonkeyPatch, drawn: int) -> None:
    torch.manual_seed(1)
    found = at_one_draw(monkeypatch, ReinMaxRao(0.002, 50), drawn, 4000)
    d = one_hot(torch.tensor(drawn), K).double()
    midpoint, score = (PI + d) / 2, d - PI
    code = d.clone().requires_grad_()
    (g,) = torch.autograd.grad(polynomial(2)(code.view(1, 1, 1, K)).sum(), code)
    expected = jacobian(midpoint) @ g + score * (score @ g) / 4 - jacobian(PI) @ g / 2
    assert_mean(found, expected)


def test_gumbel_rao_with_one_sample_is_hard_gumbel_softmax() -> None:
    f, batch = polynomial(2), 40_000
    torch.manual_seed(2)
    _, rao = gradients(GumbelRao(0.5, 1), f, LOGITS, batch)
    _, hard = gradients(GumbelSoftmax(0.5, hard=True), f, LOGITS, batch)
    assert_same_mean(rao, hard)
    assert_same_mean(rao.square(), hard.square())
    from scipy import stats

    for k in range(K):
        p = stats.ks_2samp(rao[:, 0, k], hard[:, 0, k]).pvalue
        assert p > FAILURE_RATE / K


def test_gumbel_rao_has_the_mean_of_hard_gumbel_softmax() -> None:
    torch.manual_seed(3)
    _, rao = gradients(GumbelRao(0.5, 8), polynomial(2), LOGITS, 10_000)
    _, hard = gradients(GumbelSoftmax(0.5, hard=True), polynomial(2), LOGITS, 40_000)
    assert_same_mean(rao, hard)


def test_decoupled_temperatures() -> None:
    f = polynomial(2)
    torch.manual_seed(4)
    _, decoupled = gradients(DecoupledGumbelSoftmax(1.0, 1.0), f, LOGITS, 50)
    torch.manual_seed(4)
    _, hard = gradients(GumbelSoftmax(1.0, hard=True), f, LOGITS, 50)
    torch.testing.assert_close(decoupled, hard)

    layer = DecoupledGumbelSoftmax(2.0, 0.5)
    leaf = LOGITS.expand(30_000, 1, K).clone().requires_grad_()
    torch.manual_seed(5)
    draw = layer(leaf)
    assert_chi_square(draw.index.flatten().bincount(minlength=K), (LOGITS / 2).softmax(-1))
    g = torch.randn(K, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((draw.code @ g).sum(), leaf)
    torch.manual_seed(5)
    module = sys.modules[DecoupledGumbelSoftmax.__module__]
    noise = module.gumbel_noise_like(leaf)
    relaxed = (leaf.detach() / 0.5 + noise).softmax(-1)
    expected = 2 * relaxed * (g - (relaxed @ g).unsqueeze(-1))
    torch.testing.assert_close(gradient, expected)


def test_mean_field_is_the_softmax() -> None:
    layer = MeanField()
    leaf = torch.randn(4, 2, K, dtype=torch.float64, requires_grad=True)
    assert torch.equal(layer(leaf).code, leaf.softmax(-1))
    assert torch.equal(layer(leaf).index, leaf.argmax(-1))
    assert torch.autograd.gradcheck(lambda x: layer(x).code, leaf)
