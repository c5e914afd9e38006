"""Distances and k-means do not depend on where the origin is, in float32 and under autocast."""

import pytest
import torch

from dvae.functional import kmeans, squared_distance

# Points of which float32 has all digits, with and without any of these added.
OFFSETS = [0.0, 64.0, 4096.0]


def grid(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1024, 1025, shape, generator=generator) / 1024


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_distances_and_gradients_do_not_change_with_the_origin(offset, half):
    points, centers, weight = grid(50, 8), grid(20, 8, seed=1), grid(50, 20, seed=2)
    inputs = [(x + offset).requires_grad_() for x in (points, centers)]
    with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
        found = squared_distance(*inputs)
    assert found.dtype == torch.float32
    exact = (points.double()[:, None] - centers.double()).square().sum(-1)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-5)
    gradients = torch.autograd.grad((weight * found).sum(), inputs)
    gap = weight.double().unsqueeze(-1) * 2 * (points.double()[:, None] - centers.double())
    for gradient, expected in zip(gradients, (gap.sum(1), -gap.sum(0)), strict=True):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-4)


def test_the_gradient_is_that_of_finite_differences():
    points, centers = (x.double().requires_grad_() for x in (grid(3, 4), grid(5, 4, seed=1)))
    assert torch.autograd.gradcheck(squared_distance, (points, centers))


def test_half_precision_is_lifted():
    points, centers = grid(5, 4).bfloat16(), grid(6, 4, seed=1).bfloat16()
    expected = squared_distance(points.float(), centers.float())
    assert torch.equal(squared_distance(points, centers), expected)


@pytest.mark.parametrize("offset", OFFSETS)
def test_k_means_moves_with_its_points(offset):
    # Clusters so far apart that no rounding moves a point to another.
    centers = torch.tensor([[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [0.0, -8.0, 8.0]])
    points = (grid(20_000, 3).unflatten(0, (-1, 4)) + centers[[0, 1, 1, 2]]).flatten(0, 1)
    start = centers + grid(3, 3, seed=1)
    found = kmeans(points + offset, start + offset, 3) - offset
    # To the last bit or two of what is returned.
    expected = kmeans(points, start, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.0**-23 * (offset + 8))


def test_a_center_without_points_stays():
    start = torch.tensor([[0.3, 0.7], [1e4, -1e4]])
    assert torch.equal(kmeans(grid(10, 2), start, 3)[1], start[1])
    assert torch.equal(kmeans(grid(0, 2), start, 3), start)
