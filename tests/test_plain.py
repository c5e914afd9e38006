"""The second implementation of two cells of a table, written apart from the package, agrees."""

import pytest
import torch

from benchmarks.plain import soft_part, train
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


@pytest.mark.parametrize("column", ["GST-1.0", "ST"])
def test_it_learns(column):
    cell = load("reinmax2023").cells[f"8x4 {column}"]
    pixels = (torch.arange(784).remainder(2) * torch.ones(400, 1)).float()
    first, *_, last = train(column, cell, pixels, seed=0, epochs=5)
    assert last < first
