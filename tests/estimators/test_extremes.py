"""Every estimator where numbers break: huge logits, masks, half precision, empty batches."""

import copy

import pytest
import torch
from torch import Tensor

from dvae.estimators import Estimator, ExactEnumeration, MinimumVariance
from tests.estimators.catalogue import everything, name, pathwise, score

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def f(code: Tensor) -> Tensor:
    weight = torch.linspace(-1, 2, code.shape[2:].numel(), dtype=code.dtype)
    return ((code.flatten(2) * weight).sum(-1)).tanh()


def check(estimator: Estimator, logits: Tensor) -> Tensor:
    logits = logits.detach().requires_grad_()
    value = estimator.expectation(f, logits)
    assert value.shape == logits.shape[:1]
    assert value.isfinite().all()
    own = list(estimator.parameters())
    gradient, *learned = torch.autograd.grad(value.sum(), [logits, *own])
    assert gradient.dtype == logits.dtype and gradient.shape == logits.shape
    assert gradient.isfinite().all()
    assert all(g.isfinite().all() for g in learned)
    return gradient


@pytest.mark.parametrize("estimator", everything(), ids=name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_masks_and_huge_logits(estimator: Estimator, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3, 4).to(dtype)
    check(estimator, logits)
    check(estimator, logits * 1e4)
    masked = logits.clone()
    masked[:, 0, 1:3] = -torch.inf
    masked[0, 1, 1:] = -torch.inf
    gradient = check(estimator, masked)
    assert (gradient[:, 0, 1:3] == 0).all()
    # A single class allowed: nothing to learn.
    torch.testing.assert_close(gradient[0, 1], torch.zeros(4, dtype=dtype), atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", everything(3, 2), ids=name)
def test_two_categories(estimator: Estimator) -> None:
    torch.manual_seed(1)
    for scale in (1.0, 20.0, 1e4):
        check(estimator, torch.randn(6, 3, 2) * scale)
    masked = torch.randn(6, 3, 2)
    masked[:, 0, 0] = masked[:, 1, 1] = -torch.inf
    gradient = check(estimator, masked)
    torch.testing.assert_close(gradient[:, :2], torch.zeros(6, 2, 2), atol=1e-6, rtol=0)


def test_65536_categories() -> None:
    torch.manual_seed(2)
    logits = torch.randn(2, 1, 65_536)
    for estimator in [*pathwise(), *score(1, 65_536)]:
        if isinstance(estimator, MinimumVariance):
            with pytest.raises(ValueError, match="at most 1024, got 65536"):
                check(estimator, logits)
        else:
            gradient = check(estimator, logits)
            assert gradient.abs().max() > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layer", pathwise(), ids=name)
def test_the_code_of_a_layer(layer: Estimator, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    for codes in (2, 5, 1000):
        for logits in (torch.randn(40, codes), torch.randn(40, codes) * 1e4):
            draw = layer(logits.to(dtype))
            assert draw.code.dtype == dtype
            total = draw.code.double().sum(-1)
            torch.testing.assert_close(total, torch.ones_like(total), atol=tolerance, rtol=0)
            assert draw.index.max() < codes


@pytest.mark.parametrize("estimator", everything(), ids=name)
def test_not_contiguous(estimator: Estimator) -> None:
    torch.manual_seed(4)
    straight = torch.randn(3, 4, 6)
    logits = straight.permute(2, 0, 1)
    assert not logits.is_contiguous()
    found = []
    for candidate in (logits, logits.contiguous()):
        leaf = candidate.detach().requires_grad_()
        # A copy: a running baseline moves with every call.
        fresh = copy.deepcopy(estimator)
        value = fresh.expectation(f, leaf, torch.Generator().manual_seed(5))
        found.append((value, *torch.autograd.grad(value.sum(), leaf)))
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize("estimator", everything(), ids=name)
def test_an_empty_batch(estimator: Estimator) -> None:
    gradient = check(estimator, torch.empty(0, 3, 4))
    assert gradient.shape == (0, 3, 4)
    value = estimator.expectation(f, torch.empty(0, 3, 4, requires_grad=True))
    value.sum().backward()
    for parameter in estimator.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("estimator", [*score(6, 4), *pathwise()], ids=name)
def test_a_grid_of_positions(estimator: Estimator) -> None:
    check(ExactEnumeration(), torch.randn(2, 2, 3, 2))
    check(estimator, torch.randn(2, 2, 3, 4))


@pytest.mark.parametrize("estimator", everything(), ids=name)
def test_without_gradients(estimator: Estimator) -> None:
    logits = torch.randn(5, 3, 4)
    assert not estimator.expectation(f, logits).requires_grad
    with torch.no_grad():
        value = estimator.expectation(f, logits.requires_grad_())
    assert not value.requires_grad and value.isfinite().all()
