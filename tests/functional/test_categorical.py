"""Exact quantities against sums over the categories, in nats."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Categorical, kl_divergence

from dvae.functional import (
    bernoulli_log_prob,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    count_categories,
    information_by_category,
    iwae_bound,
    perplexity_from_counts,
    usage_from_counts,
)


def test_against_torch_distributions() -> None:
    logits, prior = torch.randn(2, 5, 7, dtype=torch.float64)
    q, p = Categorical(logits=logits), Categorical(logits=prior)
    index = q.sample((3,))
    torch.testing.assert_close(categorical_log_prob(logits, index), q.log_prob(index))
    torch.testing.assert_close(categorical_entropy(logits), q.entropy())
    torch.testing.assert_close(categorical_kl(logits, p.logits), kl_divergence(q, p))


def test_forbidden_categories_add_nothing() -> None:
    logits = torch.tensor([0.0, -torch.inf, 0.0], requires_grad=True)
    uniform = torch.full((3,), -math.log(3))
    torch.testing.assert_close(categorical_entropy(logits), torch.tensor(math.log(2)))
    kl = categorical_kl(logits, uniform)
    torch.testing.assert_close(kl, torch.tensor(math.log(1.5)))
    (gradient,) = torch.autograd.grad(kl, logits)
    assert gradient.isfinite().all()


def test_kl_is_zero_at_the_prior_and_never_negative() -> None:
    logits = torch.randn(100, 6, dtype=torch.float64)
    torch.testing.assert_close(
        categorical_kl(logits, logits.log_softmax(-1)), torch.zeros(100, dtype=torch.float64)
    )
    assert (categorical_kl(logits, logits.flip(0).log_softmax(-1)) >= 0).all()


def test_perplexity_and_usage_from_counts() -> None:
    counts = torch.tensor([[4, 4, 4, 4], [16, 0, 0, 0], [8, 8, 0, 0], [0, 0, 0, 0]])
    assert perplexity_from_counts(counts).tolist() == pytest.approx([4, 1, 2, 0])
    assert usage_from_counts(counts).tolist() == [1, 0.25, 0.5, 0]


def test_iwae_bound_rises_from_the_mean_to_the_log_mean() -> None:
    log_weights = torch.randn(8, 5, dtype=torch.float64) * 3
    bound = iwae_bound(log_weights)
    torch.testing.assert_close(bound, log_weights.exp().mean(0).log())
    assert (bound >= log_weights.mean(0)).all()
    torch.testing.assert_close(iwae_bound(log_weights[:1]), log_weights[0])
    assert iwae_bound(log_weights - 1e4).isfinite().all()


def test_bernoulli_sums_to_one() -> None:
    logits = torch.tensor([-100.0, -2.0, 0.0, 3.0, 100.0])
    total = bernoulli_log_prob(logits, torch.zeros(5)).exp()
    total = total + bernoulli_log_prob(logits, torch.ones(5)).exp()
    torch.testing.assert_close(total, torch.ones(5))


def test_information_of_the_categories_sums_to_the_mutual_information() -> None:
    logits = 3 * torch.randn(40, 7, dtype=torch.float64)
    q = logits.softmax(-1)
    marginal = Categorical(probs=q.mean(0))
    mutual = kl_divergence(Categorical(probs=q), marginal).mean()
    told = information_by_category(logits)
    torch.testing.assert_close(told.sum(), 40 * mutual)
    assert (told > 0).all()


def test_a_category_tells_nothing_where_it_is_drawn_everywhere_alike_or_nowhere() -> None:
    # The first in all rows alike; the last in none; the others tell log 2 a draw.
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]], dtype=torch.float64)
    expected = 0.5 * math.log(2) * torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(information_by_category(p.log()), expected)


def test_counts_are_those_of_bincount_and_no_number_is_read_for_them() -> None:
    index = torch.randint(5, (3, 7, 2))
    torch.testing.assert_close(count_categories(index, 9), index.flatten().bincount(minlength=9))
    # A tensor without numbers: to read one is an error.
    with FakeTensorMode():
        assert count_categories(torch.zeros(4, 6, dtype=torch.int64), 9).shape == (9,)
