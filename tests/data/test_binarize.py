"""The laws of binarisation: right probabilities, and evaluation data that never change."""

from statistics import NormalDist

import pytest
import torch

from dvae.data.binarize import binarize_once, draw

# Chance that a correct implementation fails one stochastic test; the tests are seeded besides.
FAILURE_RATE = 2e-5


@pytest.mark.parametrize("whole_set", [True, False])
def test_the_mean_of_draws_is_the_pixel(whole_set: bool) -> None:
    count = 20_000
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = pixels.expand(count, 1, 16, 16).contiguous()
    if whole_set:
        ones = binarize_once(images, "fixed", "train") == 255
    else:
        torch.manual_seed(0)
        ones = draw(images)
    mean = ones.double().mean(0)
    p = pixels[0].double() / 255
    assert mean[0, 0, 0] == 0 and mean[0, 15, 15] == 1, "black and white are certain"
    # Normal approximation with 254 two-sided tests (Bonferroni); 78 ones expected at the least.
    z = NormalDist().inv_cdf(1 - FAILURE_RATE / (2 * 254))
    deviation = (mean - p).abs() / (p * (1 - p) / count).sqrt().clamp(min=1e-12)
    assert deviation.max() < z


def test_draws_of_neighbours_and_visits_are_independent() -> None:
    torch.manual_seed(1)
    grey = torch.full((1000, 1, 20, 20), 128, dtype=torch.uint8)
    first, second = draw(grey).double() - 128 / 255, draw(grey).double() - 128 / 255
    p = 128 / 255
    z = NormalDist().inv_cdf(1 - FAILURE_RATE / 4)
    for a, b in ((first, second), (first[..., 1:], first[..., :-1])):
        assert (a * b).mean().abs() < z * p * (1 - p) / a.numel() ** 0.5


def test_fixed_is_identical_whatever_came_before() -> None:
    images = torch.randint(0, 256, (9000, 1, 4, 4), dtype=torch.uint8)
    once = binarize_once(images, "fixed", "test")
    torch.rand(17)
    assert torch.equal(once, binarize_once(images, "fixed", "test"))
    assert torch.equal(once, binarize_once(images, "dynamic", "test"))
    assert not torch.equal(once, binarize_once(images, "fixed", "train"))
    # An image's draw depends on its place in the split, not on how many follow (chunks included).
    assert torch.equal(once[:8500], binarize_once(images[:8500], "fixed", "test"))
    assert once.dtype == torch.uint8 and once.unique().tolist() == [0, 255]


def test_fixed_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    binarize_once(torch.full((3, 1, 2, 2), 9, dtype=torch.uint8), "fixed", "test")
    assert torch.equal(torch.rand(3), expected)


def test_threshold_and_none() -> None:
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    assert binarize_once(images, "threshold", "test").flatten().tolist() == [0, 0, 255, 255]
    assert binarize_once(images, "none", "test") is images
