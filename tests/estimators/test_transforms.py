"""The layer under `torch.func` and `torch.export`, as `torch.nn.functional.gumbel_softmax` is."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from dvae.estimators import (
    RLOO,
    GumbelRao,
    MeanField,
    PathwiseEstimator,
    ReinMaxRao,
    StraightThrough,
)
from dvae.estimators.base import Draw
from dvae.functional import bernoulli_log_prob, categorical_kl
from dvae.scalars import annealable_scalars
from tests.estimators.catalogue import name, pathwise
from tests.laws import assert_chi_square

LAYERS = pytest.mark.parametrize("layer", pathwise(), ids=name)
# K below and above the width at which softmaxes are written out.
CODES = pytest.mark.parametrize("codes", [4, 20])


def logits_of(codes: int) -> Tensor:
    return torch.randn(5, 3, codes, generator=torch.Generator().manual_seed(codes))


def values_of(code: Tensor) -> Tensor:
    """Return a number for each example that is not linear in its code."""
    w = torch.arange(code[0].numel()).view(code.shape[1:])
    return (code.square() * w).flatten(1).sum(1) + code.flatten(1).prod(1)


def weighted(layer: PathwiseEstimator, logits: Tensor) -> Tensor:
    return values_of(layer(logits).code).sum()


def by_autograd(layer: PathwiseEstimator, logits: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    torch.manual_seed(1)
    (gradient,) = torch.autograd.grad(weighted(layer, leaf), leaf)
    return gradient


@LAYERS
@CODES
def test_grad_is_that_of_autograd(layer: PathwiseEstimator, codes: int) -> None:
    logits = logits_of(codes)
    torch.manual_seed(1)
    found = grad(lambda x: weighted(layer.train(), x))(logits)
    assert torch.equal(found, by_autograd(layer, logits))


@LAYERS
@CODES
def test_jacrev_is_row_by_row_that_of_autograd(layer: PathwiseEstimator, codes: int) -> None:
    logits = logits_of(codes)[0]
    torch.manual_seed(1)
    found = jacrev(lambda x: layer.train()(x).code)(logits)
    leaf = logits.clone().requires_grad_()
    torch.manual_seed(1)
    code = layer(leaf).code
    rows = torch.eye(code.numel()).view(-1, *code.shape)
    expected = [torch.autograd.grad(code, leaf, row, retain_graph=True)[0] for row in rows]
    torch.testing.assert_close(found.flatten(0, 1), torch.stack(expected))


@LAYERS
@CODES
def test_gradients_of_each_example_are_those_of_the_batch(
    layer: PathwiseEstimator, codes: int
) -> None:
    logits = logits_of(codes)
    layer.train()
    torch.manual_seed(1)
    drawn = vmap(layer, randomness="different")(logits)
    assert isinstance(drawn, Draw)
    torch.manual_seed(1)
    assert torch.equal(drawn.index, layer(logits).index)
    assert torch.equal(drawn.code.argmax(-1), drawn.index)
    torch.manual_seed(1)
    found = vmap(grad(lambda x: weighted(layer, x.unsqueeze(0))), randomness="different")(logits)
    if isinstance(layer, (GumbelRao, ReinMaxRao)):
        # The noise of relaxed samples comes example by example, not sample by sample.
        torch.testing.assert_close(found.sum(-1), torch.zeros(5, 3), atol=1e-4, rtol=0)
        return
    leaf = logits.clone().requires_grad_()
    torch.manual_seed(1)
    expected = torch.autograd.grad(values_of(layer(leaf).code).sum(), leaf)[0]
    torch.testing.assert_close(found, expected)


@LAYERS
def test_vmap_draws_from_the_categorical(layer: PathwiseEstimator) -> None:
    torch.manual_seed(2)
    logits = torch.tensor([0.4, -1.0, 1.2])
    index = vmap(layer.train(), randomness="different")(logits.expand(20_000, 3)).index
    if not isinstance(layer, MeanField):
        assert_chi_square(index.bincount(minlength=3), logits.softmax(-1))
    assert torch.equal(vmap(layer.eval())(logits.expand(7, 3)).index, torch.full((7,), 2))
    layer.train()


@LAYERS
def test_a_row_without_a_maximum_is_refused_under_transforms_too(
    layer: PathwiseEstimator,
) -> None:
    good = torch.zeros(4, 3)
    for row in ([-torch.inf] * 3, [0.0, torch.nan, 0.0], [0.0, torch.inf, 0.0]):
        bad = good.clone()
        bad[2] = torch.tensor(row)
        for call in (
            lambda x: grad(lambda y: layer(y).code.sum())(x),
            vmap(layer, randomness="different"),
            vmap(grad(lambda y: layer(y).code.sum()), randomness="different"),
            jacrev(lambda y: layer(y).code),
        ):
            with pytest.raises(ValueError, match="finite maximum in every row"):
                call(bad)
            call(good)


@LAYERS
def test_a_temperature_for_each_example(layer: PathwiseEstimator) -> None:
    scalars = annealable_scalars(layer)
    if not scalars:
        return
    logits = logits_of(4)
    values = {path: scalar.buffer * torch.ones(5) for path, scalar in scalars.items()}

    def f(x: Tensor, value: dict[str, Tensor]) -> Tensor:
        draw = functional_call(layer, value, (x,))
        return (draw.code * torch.arange(4)).sum()

    torch.manual_seed(1)
    each = vmap(grad(f), randomness="different")(logits, values)
    torch.manual_seed(1)
    same = vmap(grad(f), in_dims=(0, None), randomness="different")(
        logits, {path: scalar.buffer for path, scalar in scalars.items()}
    )
    torch.testing.assert_close(each, same)


def test_second_derivatives_of_an_estimate_are_refused_not_zero() -> None:
    layer = StraightThrough().train()

    def f(x: Tensor) -> Tensor:
        return layer(x).code.pow(3).sum()

    with pytest.raises(RuntimeError, match="take first derivatives only"):
        grad(lambda x: grad(f)(x).square().sum())(torch.randn(4))
    leaf = torch.randn(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="take first derivatives only"):
        torch.autograd.grad(gradient.square().sum(), leaf)


class Small(nn.Module):
    """A VAE's objective without noise, for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.layer = nn.Linear(6, 12), nn.Linear(12, 6), MeanField()
        self.prior = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.encoder(x).unflatten(-1, (3, 4))
        log_px = bernoulli_log_prob(self.decoder(self.layer(logits).code.flatten(-2)), x)
        return log_px.sum(-1) - categorical_kl(logits, self.prior.log_softmax(-1)).sum(-1)


def test_gradients_of_each_example_add_up_to_that_of_the_batch() -> None:
    torch.manual_seed(3)
    model, x = Small().train(), torch.rand(9, 6)
    parameters = dict(model.named_parameters())
    each = vmap(grad(lambda p, x: functional_call(model, p, (x,))), in_dims=(None, 0))(
        {key: value.detach() for key, value in parameters.items()}, x
    )
    whole = torch.autograd.grad(model(x).sum(), list(parameters.values()))
    for key, gradient in zip(parameters, whole, strict=True):
        torch.testing.assert_close(each[key].sum(0), gradient)


def test_a_score_function_estimate_has_a_functional_gradient() -> None:
    logits, estimator = logits_of(4), RLOO(4).train()

    def f(x: Tensor) -> Tensor:
        return estimator.expectation(lambda z: z[..., 0].sum(-1), x).sum()

    torch.manual_seed(1)
    found = grad(f)(logits)
    leaf = logits.clone().requires_grad_()
    torch.manual_seed(1)
    assert torch.equal(found, torch.autograd.grad(f(leaf), leaf)[0])


@pytest.mark.filterwarnings("ignore")
@LAYERS
def test_export_in_training_mode_draws_anew_in_every_call(layer: PathwiseEstimator) -> None:
    torch.manual_seed(4)
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(layer.train(), (torch.zeros(8, 3),), dynamic_shapes=(batch,))
    logits = torch.tensor([0.4, -1.0, 1.2])
    first, second = (program.module()(logits.expand(20_000, 3)) for _ in range(2))
    assert isinstance(first, Draw) and torch.equal(first.code.argmax(-1), first.index)
    if not isinstance(layer, MeanField):
        assert_chi_square(first.index.bincount(minlength=3), logits.softmax(-1))
        assert not torch.equal(first.index, second.index)
