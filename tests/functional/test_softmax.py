"""The written-out softmax and Jacobian against torch's, below and above the width they switch."""

import pytest
import torch

from dvae.functional import softmax, softmax_jacobian


@pytest.mark.parametrize("codes", [2, 3, 10, 15, 16, 100])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_against_torch(codes: int, scale: float) -> None:
    logits = (torch.randn(5, 7, codes, dtype=torch.float64) * scale).requires_grad_()
    g = torch.randn(5, 7, codes, dtype=torch.float64)
    p = logits.softmax(-1)
    found = softmax(logits)
    torch.testing.assert_close(found, p)
    (expected,) = torch.autograd.grad(p, logits, g)
    torch.testing.assert_close(softmax_jacobian(found.detach(), g), expected)
    (through,) = torch.autograd.grad(found, logits, g)
    torch.testing.assert_close(through, expected)


def test_a_forbidden_category_has_probability_zero() -> None:
    assert softmax(torch.tensor([0.0, -torch.inf, 0.0])).tolist() == [0.5, 0.0, 0.5]


def test_the_argument_stays() -> None:
    logits = torch.randn(4, 3)
    before = logits.clone()
    p = softmax(logits)
    kept = p.clone()
    softmax_jacobian(p, torch.randn(4, 3))
    assert torch.equal(logits, before) and torch.equal(p, kept)


def test_empty() -> None:
    assert softmax(torch.empty(0, 3)).shape == (0, 3)
    assert softmax_jacobian(torch.empty(0, 3), torch.empty(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("codes", [2, 10, 20])
def test_softmax_can_be_differentiated_twice(codes):
    scores = torch.randn(3, codes, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax, scores)
    assert torch.autograd.gradgradcheck(softmax, scores)
