import itertools
import math

import pytest
import torch

from dvae.bottlenecks import CategoricalBottleneck
from dvae.estimators import GumbelSoftmax, StraightThrough

PRIOR = [0.5, 0.3, 0.2]


def make(prior=None, estimator=None):
    return CategoricalBottleneck(2, 3, estimator, prior)


@pytest.fixture
def features():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("prior", [None, PRIOR])
def test_kl_is_the_sum_over_all_codes(features, prior):
    bottleneck = make(prior)
    states = bottleneck.states(0, 9)
    log_q = bottleneck.log_posterior(features, states.unsqueeze(1).expand(-1, 5, -1))
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(5))
    expected = (log_q.exp() * (log_q - bottleneck.log_prior(states).unsqueeze(1))).sum(0)
    torch.testing.assert_close(bottleneck.kl(features), expected)
    torch.testing.assert_close(bottleneck(features).kl, expected)


def test_kl_to_itself_is_zero():
    features = torch.tensor(PRIOR * 2).log().unsqueeze(0) + 7.0
    assert make(PRIOR).kl(features).item() == pytest.approx(0, abs=1e-6)


def test_kl_of_masked_and_certain_categories_is_finite():
    features = torch.tensor([[-math.inf, 0.0, 0.0, 1e4, 0.0, -1e4]]).requires_grad_()
    kl = make().kl(features)
    kl.sum().backward()
    assert kl.item() == pytest.approx(math.log(3) - math.log(2) + math.log(3), abs=1e-4)
    assert features.grad.isfinite().all()


def test_states_are_all_different_and_the_prior_sums_to_one():
    bottleneck = make(PRIOR)
    states = bottleneck.states(0, bottleneck.num_states)
    assert sorted(map(tuple, states.tolist())) == list(itertools.product(range(3), repeat=2))
    assert bottleneck.log_prior(states).exp().sum().item() == pytest.approx(1)


def test_counts_are_those_of_each_latent():
    counts = make().count(torch.tensor([[0, 1], [0, 2], [2, 2]]))
    assert counts.tolist() == [[2, 0, 1], [0, 1, 2]]


def test_codes_are_one_hot_side_by_side():
    assert make().embed(torch.tensor([[0, 2]])).tolist() == [[1, 0, 0, 0, 0, 1]]


def test_draws_follow_the_posterior_and_the_prior(features):
    from tests.laws import assert_chi_square

    bottleneck = make(PRIOR)
    generator = torch.Generator().manual_seed(0)
    draws = bottleneck.draw(features, 20_000, generator)
    probabilities = features.view(5, 2, 3).softmax(-1)
    for example, latent in itertools.product(range(5), range(2)):
        counts = draws[:, example, latent].bincount(minlength=3)
        assert_chi_square(counts, probabilities[example, latent])
    prior = bottleneck.sample_prior(20_000, generator)
    assert_chi_square(prior[:, 0].bincount(minlength=3), torch.tensor(PRIOR))


def test_the_arg_max_is_what_evaluation_sends_on(features):
    bottleneck = make(estimator=GumbelSoftmax(0.1)).eval()
    out = bottleneck(features)
    assert torch.equal(out.index, bottleneck.mode(features))
    assert torch.equal(out.code, bottleneck.embed(out.index))


def test_gradients_reach_the_features(features):
    features.requires_grad_()
    bottleneck = make(estimator=StraightThrough())
    weights = torch.randn(6)
    bottleneck.expectation(lambda z: z @ weights, features).value.sum().backward()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_latents": 0}, "num_latents must be >= 1; got 0"),
        ({"num_codes": 1}, "num_codes must be >= 2 .*; got 1"),
        ({"num_codes": 3, "prior": [0.5, 0.5]}, "prior must be 3 probabilities"),
        ({"num_codes": 2, "prior": [0.7, 0.7]}, "sum to 1"),
        ({"num_codes": 2, "prior": [1.0, 0.0]}, "above 0"),
    ],
)
def test_wrong_values_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CategoricalBottleneck(**kwargs)
