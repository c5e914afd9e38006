"""Gradients that were computed elsewhere arrive where they were sent, and nowhere else."""

import torch

from dvae.functional import attach_gradient, attach_own_gradients


def test_a_given_gradient_is_added_to_the_graph_of_the_value() -> None:
    logits = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    gradient, upstream = torch.randn(4, 2, 3).double(), torch.randn(4).double()
    value = scale * torch.arange(4).double() + logits.sum((1, 2))
    result = attach_gradient(value, logits, gradient)
    assert torch.equal(result, value)
    (result * upstream).sum().backward()
    torch.testing.assert_close(logits.grad, upstream.view(4, 1, 1) * (gradient + 1))
    torch.testing.assert_close(scale.grad, (upstream * torch.arange(4)).sum())


def test_a_forbidden_category_does_no_harm() -> None:
    logits = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    result = attach_gradient(torch.ones(1), logits, torch.tensor([[0.5, 0.0]]))
    result.sum().backward()
    assert torch.equal(logits.grad, torch.tensor([[0.5, 0.0]]))


def test_the_gradient_takes_the_dtype_of_the_logits() -> None:
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    attach_gradient(torch.ones(2), logits, torch.rand(2, 3)).sum().backward()
    assert logits.grad.dtype == torch.bfloat16


def test_own_gradients_count_each_example_by_the_size_of_its_weight() -> None:
    own = [torch.randn(5, 3).double().requires_grad_(), torch.tensor(2.0).double().requires_grad_()]
    x, other = torch.randn(5).double().requires_grad_(), torch.ones(()).requires_grad_()
    weight = torch.tensor([1.0, -3.0, 0.0, 2.0**16, 1e-3]).double()
    cost = (own[0].square().sum(1) * own[1]).tanh() * other
    result = attach_own_gradients(x * 2, own, cost)
    assert torch.equal(result, x * 2)
    (weight * result).sum().backward(retain_graph=True)
    expected = torch.autograd.grad((weight.abs() * cost).sum(), own)
    for parameter, gradient in zip(own, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert torch.equal(x.grad, 2 * weight) and other.grad is None
