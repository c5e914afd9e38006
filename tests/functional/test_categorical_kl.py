import pytest
import torch

from dvae.functional import categorical_kl


def plain_kl(logits, log_prior):
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_prior)).sum(-1)


def test_value_and_gradients_are_those_of_the_definition():
    torch.manual_seed(0)
    for shape in ((4, 3, 5), (2, 7), (0, 3, 4)):
        logits = (torch.randn(shape, dtype=torch.float64) * 3).requires_grad_()
        prior = torch.randn(shape[-1], dtype=torch.float64).log_softmax(-1).requires_grad_()
        weight = torch.randn(shape[:-1], dtype=torch.float64)
        ours, theirs = categorical_kl(logits, prior), plain_kl(logits, prior)
        torch.testing.assert_close(ours, theirs)
        got = torch.autograd.grad((ours * weight).sum(), (logits, prior))
        expected = torch.autograd.grad((theirs * weight).sum(), (logits, prior))
        torch.testing.assert_close(got, expected)


def test_it_can_be_differentiated_twice():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    prior = torch.randn(4, dtype=torch.float64).log_softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(categorical_kl, (logits, prior))
    assert torch.autograd.gradgradcheck(categorical_kl, (logits, prior))


def test_a_forbidden_category_adds_nothing():
    logits = torch.tensor([[0.5, -torch.inf, 1.5]], requires_grad=True)
    allowed = torch.tensor([[0.5, 1.5]], requires_grad=True)
    prior = torch.tensor([0.2, 0.5, 0.3]).log()
    kl, same = categorical_kl(logits, prior), categorical_kl(allowed, prior[[0, 2]])
    torch.testing.assert_close(kl, same)
    kl.sum().backward()
    same.sum().backward()
    torch.testing.assert_close(logits.grad[:, [0, 2]], allowed.grad)
    assert logits.grad[0, 1] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_what_float32_takes(dtype):
    logits = torch.tensor([[-torch.inf, 1.0, 2.0], [6e4, -6e4, 0.0]], dtype=dtype)
    logits.requires_grad_()
    uniform = torch.zeros(3, dtype=dtype).log_softmax(-1)
    kl = categorical_kl(logits, uniform)
    expected = categorical_kl(logits.detach().double(), uniform.double())
    torch.testing.assert_close(kl.double(), expected, rtol=2e-2, atol=2e-2)
    (grad,) = torch.autograd.grad(kl.sum(), logits)
    assert grad.isfinite().all()
