"""The layer on its own: any network's drop-in for `torch.nn.functional.gumbel_softmax`."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from dvae.estimators import GumbelSoftmax, MeanField, PathwiseEstimator
from dvae.scalars import annealable_scalars
from tests.estimators.catalogue import name, pathwise
from tests.laws import assert_chi_square

LAYERS = pytest.mark.parametrize("layer", pathwise(), ids=name)


def is_hard(layer: PathwiseEstimator) -> bool:
    return not isinstance(layer, MeanField) and getattr(layer, "hard", True)


@LAYERS
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_any_dimension_may_be_the_categories(layer: PathwiseEstimator, dim: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, requires_grad=True)
    draw = layer.train()(logits, dim=dim)
    assert draw.code.shape == logits.shape
    assert draw.index.shape == tuple(n for i, n in enumerate(logits.shape) if i != dim % 3)
    torch.testing.assert_close(draw.code.sum(dim), torch.ones(draw.index.shape))
    assert torch.equal(draw.code.argmax(dim), draw.index)
    (gradient,) = torch.autograd.grad((draw.code * torch.randn(3, 4, 5)).sum(), logits)
    # Adding a constant to the logits changes nothing.
    torch.testing.assert_close(gradient.sum(dim), torch.zeros(draw.index.shape), atol=1e-5, rtol=0)
    assert gradient.abs().max() > 0


@LAYERS
def test_training_draws_from_the_categorical(layer: PathwiseEstimator) -> None:
    torch.manual_seed(1)
    logits = torch.tensor([0.4, -1.0, 1.2])
    draw = layer.train()(logits.expand(20_000, 3))
    if isinstance(layer, MeanField):
        assert (draw.index == 2).all()
        return
    assert_chi_square(draw.index.bincount(minlength=3), logits.softmax(-1))
    assert (draw.code.amax(-1) == 1).all() == is_hard(layer)


@LAYERS
def test_evaluation_is_the_arg_max(layer: PathwiseEstimator) -> None:
    logits = torch.randn(3, 4, 5)
    before = torch.get_rng_state()
    draw = layer.eval()(logits, dim=1)
    again = layer(logits, dim=1)
    layer.train()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draw.code, again.code)
    assert torch.equal(draw.index, logits.argmax(1))
    assert set(draw.code.unique().tolist()) == {0.0, 1.0}


@LAYERS
def test_the_generator_decides_the_draw(layer: PathwiseEstimator) -> None:
    logits = torch.randn(50, 4)
    first = layer.sample(logits, torch.Generator().manual_seed(3))
    torch.rand(7)
    second = layer.sample(logits, torch.Generator().manual_seed(3))
    assert torch.equal(first.code, second.code) and torch.equal(first.index, second.index)


@LAYERS
def test_scalars_travel_in_the_state_and_print(layer: PathwiseEstimator) -> None:
    for path, scalar in annealable_scalars(layer).items():
        assert scalar.buffer.dtype == torch.float32
        assert path in layer.state_dict() and f"{path}=" in repr(layer)


def test_the_names_of_the_scalars() -> None:
    names = {type(layer).__name__: set(annealable_scalars(layer)) for layer in pathwise()}
    assert names["DecoupledGumbelSoftmax"] == {"tau_forward", "tau_backward"}
    assert names["GappedStraightThrough"] == {"tau", "gap"}
    assert names["MinimumVariance"] == {"t"}
    assert names["GumbelSoftmax"] == {"tau"}


@LAYERS
def test_a_new_temperature_takes_effect(layer: PathwiseEstimator) -> None:
    logits = torch.randn(20, 4, requires_grad=True)
    g = torch.randn(20, 4)
    found = []
    for factor in (1.0, 2.0):
        for scalar in annealable_scalars(layer).values():
            scalar.buffer.mul_(factor)
        draw = layer.sample(logits, torch.Generator().manual_seed(4))
        found.append(torch.autograd.grad(draw.code, logits, g)[0])
    for scalar in annealable_scalars(layer).values():
        scalar.buffer.div_(2.0)
    assert torch.equal(found[0], found[1]) == (not annealable_scalars(layer))


@LAYERS
def test_autocast(layer: PathwiseEstimator) -> None:
    torch.manual_seed(5)
    encoder, decoder = nn.Linear(6, 8), nn.Linear(8, 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = encoder(torch.randn(5, 6)).unflatten(1, (2, 4))
        draw = layer(logits)
        loss = decoder(draw.code.flatten(1)).sum()
    assert draw.code.dtype == logits.dtype == torch.bfloat16
    loss.backward()
    assert encoder.weight.grad is not None and encoder.weight.grad.isfinite().all()


@pytest.mark.slow
@LAYERS
def test_compile(layer: PathwiseEstimator) -> None:
    torch.manual_seed(6)
    logits = torch.tensor([0.4, -1.0, 1.2]).repeat(20_000, 1).requires_grad_()

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        draw = layer(x)
        return draw.code, draw.index

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        # The whole graph without the code generation, which takes a minute and is not ours.
        code, index = torch.compile(step, backend="aot_eager", fullgraph=True)(logits)
        (gradient,) = torch.autograd.grad((code * torch.randn(3)).sum(), logits)
    # Other random numbers than without compilation, so the law and not the sample is compared.
    if not isinstance(layer, MeanField):
        assert_chi_square(index.bincount(minlength=3), logits[0].detach().softmax(-1))
    assert torch.equal(code.argmax(-1), index)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(20_000), atol=1e-5, rtol=0)


def test_a_mask_and_a_choice_of_operations_in_the_middle_of_a_network() -> None:
    torch.manual_seed(7)
    layer, alpha = GumbelSoftmax(1.0, hard=True), nn.Parameter(torch.zeros(3))
    mask = torch.tensor([0.0, -torch.inf, 0.0])
    x = torch.randn(8, 5)
    operations = torch.stack([x, x * torch.nan, -x])
    operations[1] = 0
    for _ in range(20):
        weights = layer(alpha + mask).code
        assert weights[1] == 0
        (weights.view(3, 1, 1) * operations).sum(0).square().sum().backward()
    assert alpha.grad is not None and alpha.grad.isfinite().all() and alpha.grad[1] == 0
