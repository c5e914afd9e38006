import itertools

import pytest
import torch

from dvae.likelihoods import Bernoulli


def test_the_mass_of_all_images_is_one():
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).view(-1, 1, 2, 3)
    params = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)) * 3
    total = Bernoulli().log_prob(params, images).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-6)


def test_grayscale_is_minus_the_cross_entropy():
    params, image = torch.randn(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        params, image, reduction="none"
    ).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli().log_prob(params, image), expected)


def test_pairs_equal_the_loop():
    likelihood = Bernoulli()
    params, image = torch.randn(3, 1, 4, 4), torch.rand(5, 1, 4, 4)
    expected = torch.stack(
        [torch.stack([likelihood.log_prob(p, x) for x in image]) for p in params]
    )
    torch.testing.assert_close(likelihood.pairwise_log_prob(params, image), expected)


def test_extreme_log_odds_stay_finite():
    params = torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1).requires_grad_()
    log_px = Bernoulli().log_prob(params, torch.ones(2, 1, 1, 1))
    log_px.sum().backward()
    assert log_px.tolist() == [-1e4, 0.0]
    assert params.grad.isfinite().all()
