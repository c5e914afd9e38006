"""The Gumbel-softmax layer: an exact draw forward, the softmax's own gradient backward."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.estimators import DecoupledGumbelSoftmax, GumbelSoftmax
from dvae.estimators.base import gumbel_noise_like
from tests.laws import assert_chi_square, assert_smaller, exact_gradient, gradients, network

LOGITS = torch.tensor([1.0, -0.5, 0.0, -torch.inf, 2.0])


@pytest.mark.parametrize("hard", [True, False])
def test_the_index_is_a_categorical_draw(hard: bool) -> None:
    torch.manual_seed(0)
    draw = GumbelSoftmax(0.5, hard)(LOGITS.expand(50_000, 5))
    assert_chi_square(draw.index.bincount(minlength=5), LOGITS.softmax(-1))
    assert torch.equal(draw.code.argmax(-1), draw.index)


@pytest.mark.parametrize("hard", [True, False])
def test_the_index_does_not_depend_on_the_temperature(hard: bool) -> None:
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(1))
    draws = []
    for tau in (5.0, 1.0, 0.1):
        draws.append(GumbelSoftmax(tau, hard).sample(logits, torch.Generator().manual_seed(2)))
    assert torch.equal(draws[0].index, draws[1].index)
    assert torch.equal(draws[0].index, draws[2].index)


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("hard", [True, False])
def test_value_and_gradient_against_plain_autograd(hard: bool, tau: float) -> None:
    torch.manual_seed(3)
    logits = torch.randn(6, 3, 7, dtype=torch.float64, requires_grad=True)
    g = torch.randn(6, 3, 7, dtype=torch.float64)
    layer = GumbelSoftmax(tau, hard).double()
    draw = layer.sample(logits, torch.Generator().manual_seed(4))
    noise = gumbel_noise_like(logits, torch.Generator().manual_seed(4))
    relaxed = ((logits + noise) / layer.tau).softmax(-1)
    expected = F.one_hot(relaxed.argmax(-1), 7).double() if hard else relaxed
    torch.testing.assert_close(draw.code, expected)
    (found,) = torch.autograd.grad(draw.code, logits, g)
    (wanted,) = torch.autograd.grad(relaxed, logits, g)
    torch.testing.assert_close(found, wanted)


def with_fixed_noise(hard: bool) -> Callable[[Tensor], Tensor]:
    layer = GumbelSoftmax(0.8, hard).double()
    return lambda x: layer.sample(x, torch.Generator().manual_seed(5)).code


def test_gradcheck_passes_soft_and_fails_hard() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(with_fixed_noise(False), logits)
    # A hard code is constant almost everywhere, its stated gradient is not: that is the point.
    assert not torch.autograd.gradcheck(with_fixed_noise(True), logits, raise_exception=False)


def test_variance_grows_and_bias_shrinks_as_tau_falls() -> None:
    torch.manual_seed(6)
    f, logits = network(1, 3), torch.tensor([[0.5, 0.0, -0.5]], dtype=torch.float64)
    exact, found = exact_gradient(f, logits), {}
    for tau in (2.0, 0.5, 0.1):
        found[tau] = gradients(GumbelSoftmax(tau), f, logits, 40_000)[1]
    deviation = {tau: (g - g.mean(0)).flatten(1).square().sum(1) for tau, g in found.items()}
    assert_smaller(deviation[2.0], deviation[0.5])
    assert_smaller(deviation[0.5], deviation[0.1])
    bias = {tau: (g.mean(0) - exact).norm() for tau, g in found.items()}
    error = {tau: deviation[tau].mean().sqrt() / len(g) ** 0.5 for tau, g in found.items()}
    assert bias[0.5] + 5 * error[0.5] < bias[2.0] - 5 * error[2.0]
    assert bias[0.1] < bias[0.5] - 5 * error[0.5]


def saved_bytes(run: Callable[[], Tensor]) -> int:
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(storages.values())


@pytest.mark.parametrize("hard", [True, False])
def test_holds_no_more_for_the_backward_pass_than_torch(hard: bool) -> None:
    logits = torch.randn(64, 100, requires_grad=True)
    layer = GumbelSoftmax(0.5, hard)
    ours = saved_bytes(lambda: layer(logits).code)
    # One relaxed code and the temperature.
    assert 0 < ours <= logits.numel() * 4 + 64
    assert ours <= saved_bytes(lambda: F.gumbel_softmax(logits, 0.5, hard=hard)) + 64


@pytest.mark.parametrize("bad", [0, 0.0, -1.0, float("nan"), float("inf"), True, "1"])
def test_refuses_a_temperature(bad: float) -> None:
    with pytest.raises(ValueError, match=r"tau must be a number > 0; got"):
        GumbelSoftmax(bad)
    with pytest.raises(ValueError, match=r"tau_backward must be a number > 0; got"):
        DecoupledGumbelSoftmax(1.0, bad)
