"""The m-sample bound: VIMCO unbiased for its gradient, pathwise layers in one call of f."""

import pytest
import torch
from torch import Tensor

from dvae.estimators import RLOO, VIMCO, ZGR, Estimator, GumbelSoftmax
from dvae.functional import categorical_log_prob, iwae_bound
from tests.estimators.catalogue import name, pathwise, score
from tests.laws import (
    all_tuples,
    assert_mean,
    fix,
    network,
    one_hot,
    peaked_logits,
    probability,
)


def log_weights(logits: Tensor):
    """Build an f like a model's: a network less log q, which depends on the logits itself."""
    joint = network(logits.shape[-2], logits.shape[-1])

    def f(code: Tensor) -> Tensor:
        log_q = categorical_log_prob(logits, code.argmax(-1)).sum(-1)
        return joint(code) - log_q

    return f


def exact_bound(logits: Tensor, samples: int) -> Tensor:
    """Sum the bound over all tuples of draws of logits ``(L, K)``, differentiably."""
    latents, codes = logits.shape
    tuples = all_tuples(codes, latents * samples).unflatten(1, (samples, latents))
    f = log_weights(logits.unsqueeze(0))
    bound = iwae_bound(f(one_hot(tuples.transpose(0, 1), codes)))
    return (probability(logits, tuples).prod(1) * bound).sum()


@pytest.mark.parametrize("gap", [0.0, 8.0, 20.0])
@pytest.mark.parametrize(
    ("codes", "latents", "samples"), [(2, 1, 2), (2, 3, 3), (3, 1, 4), (3, 2, 3), (10, 1, 4)]
)
def test_vimco_over_all_tuples(
    monkeypatch: pytest.MonkeyPatch, codes: int, latents: int, samples: int, gap: float
) -> None:
    logits = peaked_logits(latents, codes, gap).requires_grad_()
    exact = exact_bound(logits, samples)
    (expected,) = torch.autograd.grad(exact, logits)

    tuples = all_tuples(codes, latents * samples).unflatten(1, (samples, latents))
    weights = probability(logits.detach(), tuples).prod(1)
    fix(monkeypatch, "dvae.estimators.score_function", "draw_index", tuples.transpose(0, 1))
    leaf = logits.detach().expand(len(tuples), latents, codes).clone().requires_grad_()
    value = VIMCO().bound(log_weights(leaf), leaf, samples)
    torch.testing.assert_close((weights * value).sum(), exact)
    (gradient,) = torch.autograd.grad((weights * value).sum(), leaf)
    scale = expected.abs().max()
    torch.testing.assert_close(gradient.sum(0) / scale, expected / scale)


def test_vimco_with_its_own_noise() -> None:
    torch.manual_seed(0)
    logits = peaked_logits(2, 3, 1.0).requires_grad_()
    exact = exact_bound(logits, 3)
    leaf = logits.detach().expand(20_000, 2, 3).clone().requires_grad_()
    value = VIMCO().bound(log_weights(leaf), leaf, 3)
    assert_mean(value, exact.detach())
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert_mean(gradient, torch.autograd.grad(exact, logits)[0])


@pytest.mark.parametrize("layer", pathwise(), ids=name)
@pytest.mark.parametrize("samples", [1, 4])
def test_pathwise_bound_is_one_call_of_f(layer: Estimator, samples: int) -> None:
    logits = torch.randn(5, 3, 4, requires_grad=True)
    calls = []

    def f(code: Tensor) -> Tensor:
        calls.append(code)
        return network(3, 4)(code)

    value = layer.bound(f, logits, samples)
    assert len(calls) == 1 and calls[0].shape == (samples, 5, 3, 4)
    torch.testing.assert_close(value, iwae_bound(network(3, 4)(calls[0])))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.shape == logits.shape and gradient.abs().max() > 0


def test_the_draws_of_a_bound_are_independent() -> None:
    torch.manual_seed(1)
    seen: list[Tensor] = []

    def f(code: Tensor) -> Tensor:
        seen.append(code.argmax(-1))
        return code.sum((-1, -2))

    GumbelSoftmax(1.0, hard=True).bound(f, torch.zeros(4000, 1, 2), 2)
    first, second = seen[0].squeeze(-1).double()
    assert_mean((first - 0.5) * (second - 0.5), 0.0)


@pytest.mark.parametrize(
    "estimator", [e for e in score(3, 2) if not isinstance(e, VIMCO)], ids=name
)
def test_the_others_have_no_bound(estimator: Estimator) -> None:
    with pytest.raises(ValueError, match="VIMCO or a pathwise estimator") as caught:
        estimator.bound(network(3, 2), torch.zeros(2, 3, 2), 5)
    assert type(estimator).__name__ in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("estimator", "least"), [(VIMCO(), 2), (ZGR(), 1)], ids=name)
@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_refuses_a_number_of_samples(estimator: Estimator, least: int, bad: int) -> None:
    with pytest.raises(ValueError, match=f"must be an integer >= {least}; got {bad}"):
        estimator.bound(network(1, 2), torch.zeros(2, 1, 2), bad)


def test_vimco_refuses_one_draw() -> None:
    with pytest.raises(ValueError, match="must be an integer >= 2; got 1"):
        VIMCO().bound(network(1, 2), torch.zeros(2, 1, 2), 1)


def test_an_expectation_of_vimco_is_that_of_rloo() -> None:
    logits = torch.randn(5, 3, 4, requires_grad=True)
    found = []
    for estimator in (VIMCO(3), RLOO(3)):
        value = estimator.expectation(network(3, 4), logits, torch.Generator().manual_seed(2))
        found.append((value, *torch.autograd.grad(value.sum(), logits)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
