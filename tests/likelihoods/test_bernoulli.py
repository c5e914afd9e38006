import itertools

import pytest
import torch

from dvae.functional import bernoulli_log_prob
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


def test_log_prob_and_its_slopes_are_those_of_the_cross_entropy():
    logits = torch.tensor([-50.0, -3.0, -0.0, 0.0, 1e-3, 4.0, 50.0], dtype=torch.float64)
    logits = logits.unsqueeze(1).requires_grad_()
    x = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64).requires_grad_()
    expected = -torch.nn.functional.binary_cross_entropy_with_logits(
        logits.expand(7, 3), x.expand(7, 3), reduction="none"
    )
    result = bernoulli_log_prob(logits, x)
    torch.testing.assert_close(result, expected)
    slopes = torch.autograd.grad(result.sum(), [logits, x], create_graph=True)
    for slope, of_expected in zip(
        slopes, torch.autograd.grad(expected.sum(), [logits, x]), strict=True
    ):
        torch.testing.assert_close(slope, of_expected)
    (curvature,) = torch.autograd.grad(slopes[0].sum(), logits)
    torch.testing.assert_close(curvature, -3 * logits.sigmoid() * (-logits).sigmoid())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, x = torch.linspace(-9, 9, 50).to(dtype).requires_grad_(), torch.rand(50)
    result = bernoulli_log_prob(logits, x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, bernoulli_log_prob(logits.float(), x))
    result.sum().backward()
    assert logits.grad.dtype == dtype
