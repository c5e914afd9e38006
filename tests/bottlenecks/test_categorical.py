import itertools
import math

import pytest
import torch

from dvae.bottlenecks import CategoricalBottleneck
from dvae.estimators import GumbelSoftmax, StraightThrough
from dvae.priors import CategoricalPrior, UniformPrior
from tests.posteriors import expectation, kl, look, priced

PRIOR = [0.5, 0.3, 0.2]


def make(estimator=None):
    return CategoricalBottleneck(2, 3, estimator)


def prior_of(probs=PRIOR):
    return priced(UniformPrior() if probs is None else CategoricalPrior(probs), make())


@pytest.fixture
def features():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("probs", [None, PRIOR])
def test_kl_is_the_sum_over_all_codes(features, probs):
    bottleneck, prior = make(), prior_of(probs)
    states = bottleneck.states(0, 9)
    log_q = look(bottleneck, features).log_prob(states.unsqueeze(1).expand(-1, 5, -1))
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(5))
    expected = (log_q.exp() * (log_q - prior.log_prob(states).unsqueeze(1))).sum(0)
    torch.testing.assert_close(bottleneck(features).kl(prior), expected)


def test_kl_to_itself_is_zero():
    features = torch.tensor(PRIOR * 2).log().unsqueeze(0) + 7.0
    assert kl(make(), features, prior_of()).item() == pytest.approx(0, abs=1e-6)


def test_kl_of_masked_and_certain_categories_is_finite():
    features = torch.tensor([[-math.inf, 0.0, 0.0, 1e4, 0.0, -1e4]]).requires_grad_()
    found = kl(make(), features)
    found.sum().backward()
    assert found.item() == pytest.approx(math.log(3) - math.log(2) + math.log(3), abs=1e-4)
    assert features.grad.isfinite().all()


def test_states_are_all_different_and_the_prior_sums_to_one():
    bottleneck = make()
    states = bottleneck.states(0, bottleneck.num_states)
    assert sorted(map(tuple, states.tolist())) == list(itertools.product(range(3), repeat=2))
    assert prior_of().log_prob(states).exp().sum().item() == pytest.approx(1)


def test_counts_are_those_of_each_latent():
    counts = make().count(torch.tensor([[0, 1], [0, 2], [2, 2]]))
    assert counts.tolist() == [[2, 0, 1], [0, 1, 2]]


def test_codes_are_one_hot_side_by_side():
    assert make().embed(torch.tensor([[0, 2]])).tolist() == [[1, 0, 0, 0, 0, 1]]


def test_draws_follow_the_posterior_and_the_prior(features):
    from tests.laws import assert_chi_square

    bottleneck = make()
    generator = torch.Generator().manual_seed(0)
    draws = look(bottleneck, features).sample(20_000, generator)
    probabilities = features.view(5, 2, 3).softmax(-1)
    for example, latent in itertools.product(range(5), range(2)):
        counts = draws[:, example, latent].bincount(minlength=3)
        assert_chi_square(counts, probabilities[example, latent])
    prior = prior_of().sample(20_000, generator)
    assert_chi_square(prior[:, 0].bincount(minlength=3), torch.tensor(PRIOR))


def test_the_arg_max_is_what_evaluation_sends_on(features):
    bottleneck = make(estimator=GumbelSoftmax(0.1)).eval()
    q = bottleneck(features)
    assert torch.equal(q.mode(), q.logits.argmax(-1))


def test_gradients_reach_the_features(features):
    features.requires_grad_()
    bottleneck = make(estimator=StraightThrough())
    weights = torch.randn(6)
    expectation(bottleneck, lambda z: z @ weights, features).value.sum().backward()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_latents": 0}, "num_latents must be an integer >= 1; got 0"),
        ({"num_codes": 1}, "num_codes must be an integer >= 2; got 1"),
        ({"prior": PRIOR}, r"write model.prior: .*CategoricalPrior.*probs: \[0.5, 0.3, 0.2\]"),
    ],
)
def test_wrong_values_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CategoricalBottleneck(**kwargs)
