"""The shared backward pass against plain autograd, with an upstream gradient that is not one."""

import pytest
import torch
from torch import Tensor

from dvae.functional import minimum_variance, one_hot_like, straight_through, zgr


def pulled_back(p: Tensor, g: Tensor) -> Tensor:
    return torch.einsum("...ij,...j->...i", torch.diag_embed(p) - p[..., None] * p[..., None, :], g)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 7), (0, 3)])
def test_weighted_jacobians(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    p, q = torch.randn(2, *shape, dtype=torch.float64).softmax(-1)
    g = torch.randn(shape, dtype=torch.float64)
    code = one_hot_like(logits, logits.argmax(-1))
    result = straight_through(logits, code, [p, q], [2.0, torch.tensor(-0.5)])
    assert torch.equal(result, code) and not code.requires_grad
    (found,) = torch.autograd.grad(result, logits, g)
    torch.testing.assert_close(found, 2 * pulled_back(p, g) - 0.5 * pulled_back(q, g))


def test_an_average_over_relaxed_samples() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    p = torch.randn(6, 3, 5, dtype=torch.float64).softmax(-1)
    g = torch.randn(3, 5, dtype=torch.float64)
    result = straight_through(logits, one_hot_like(logits, logits.argmax(-1)), [p], [0.5])
    (found,) = torch.autograd.grad(result, logits, g)
    torch.testing.assert_close(found, 0.5 * pulled_back(p, g).mean(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_gradient_is_as_good_as_its_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 33).to(dtype).requires_grad_()
    g = torch.randn(64, 33).to(dtype)
    p = logits.detach().float().softmax(-1)
    result = straight_through(logits, one_hot_like(logits, logits.argmax(-1)), [p], [1.0])
    (found,) = torch.autograd.grad(result, logits, g)
    (plain,) = torch.autograd.grad(logits.softmax(-1), logits, g)
    exact = pulled_back(logits.detach().double().softmax(-1), g.double())
    assert found.dtype == dtype
    error, allowed = (found - exact).abs().max(), (plain - exact).abs().max()
    assert error <= 2 * allowed


def test_zgr_formula() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    p, g = logits.detach().softmax(-1), torch.randn(4, 5, dtype=torch.float64)
    code = one_hot_like(logits, torch.tensor([0, 3, 4, 1]))
    (found,) = torch.autograd.grad(zgr(logits, code, p), logits, g)
    d = code - p
    expected = 0.5 * (pulled_back(p, g) + (d * g).sum(-1, keepdim=True) * d)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("t", [0.0, 0.3, 10.0, 1e6])
def test_minimum_variance_against_the_matrix_written_out(t: float) -> None:
    p, g = torch.tensor([0.5, 0.2, 0.2, 0.1]).double(), torch.randn(4, dtype=torch.float64)
    jacobian = torch.diag(p) - torch.outer(p, p)
    a = torch.empty(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            a[i, j] = -t * p[i] * p[j] / (1 + t * (p[i] + p[j]))
        others = (p / (1 + t * (p[i] + p))).sum()
        a[i, i] = (1 + t * p[i]) * others - t * p[i] ** 2 / (1 + 2 * t * p[i])
    v = torch.linalg.lstsq(a, torch.diag((1 + t * p) / (1 + 2 * t * p)) @ jacobian).solution
    for x in range(4):
        rows = torch.stack(
            [
                ((1 + t * p[i]) * v[i] - t * p[i] * v[x] + t * (i == x) * jacobian[x])
                / (1 + t * (p[i] + p[x]))
                for i in range(4)
            ]
        )
        logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        index = torch.tensor(x)
        code = minimum_variance(logits, one_hot_like(logits, index), index, p, t)
        (found,) = torch.autograd.grad(code, logits, g)
        torch.testing.assert_close(found, rows.T @ g, rtol=1e-6, atol=1e-8)
