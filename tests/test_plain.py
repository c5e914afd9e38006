"""The second implementation of two cells of a table, written apart from the package, agrees."""

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from benchmarks.plain import divergence, soft_part, train
from benchmarks.tables.spec import estimator, load
from dvae.functional import one_hot_like


@pytest.mark.parametrize("column", ["GST-1.0", "ST"])
def test_both_give_the_same_gradient_at_the_same_draws(column):
    cell = load("reinmax2023").cells[f"8x4 {column}"]
    theta = 3 * torch.randn(20, 4, 8, dtype=torch.float64)
    gradient = torch.randn_like(theta)

    ours = theta.clone().requires_grad_()
    draw = estimator(cell.estimator).double().sample(ours)
    draw.code.backward(gradient)

    theirs = theta.clone().requires_grad_()
    code = one_hot_like(theta, draw.index)
    soft_part(column, theirs, code, cell.estimator["tau"]).backward(gradient)

    torch.testing.assert_close(ours.grad, theirs.grad)


def test_its_kl_is_that_of_torch():
    theta = 3 * torch.randn(20, 4, 8, dtype=torch.float64)
    posterior, prior = Categorical(logits=theta), Categorical(logits=torch.zeros_like(theta))
    torch.testing.assert_close(divergence(theta), kl_divergence(posterior, prior).sum(-1))


@pytest.mark.parametrize("column", ["GST-1.0", "ST"])
def test_of_images_that_are_all_alike_nothing_is_left_but_the_kl(column):
    cell = load("reinmax2023").cells[f"8x4 {column}"]
    pixels = (torch.arange(784).remainder(2) * torch.ones(400, 1)).float()
    first, *_, last = train(column, cell, pixels, seed=0, epochs=20)
    assert last < first
    assert 0 <= last < cell.latents * math.log(cell.codes) + 1
