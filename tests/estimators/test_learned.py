"""Estimators with parts of their own: they learn to vary less and touch nothing else."""

import pytest
import torch
from torch import Tensor, nn

from dvae.estimators import REBAR, RELAX, Reinforce, control_variate
from tests.laws import gradients, network, peaked_logits, squared_deviation

LEARNED = pytest.mark.parametrize(
    "make",
    [lambda: REBAR(0.1), lambda: RELAX(2, 3, 16), lambda: RELAX(2, 3, 16, None)],
    ids=["rebar", "relax", "relax-network"],
)


@LEARNED
def test_learning_lowers_the_variance(make) -> None:
    torch.manual_seed(0)
    estimator, f, logits = make(), network(2, 3), peaked_logits(2, 3, 0.0)
    before = squared_deviation(gradients(estimator, f, logits, 20_000)[1]).mean()
    optimizer = torch.optim.SGD(estimator.parameters(), lr=0.003)
    leaf = logits.float().expand(256, 2, 3).clone().requires_grad_()
    for _ in range(150):
        optimizer.zero_grad()
        estimator.expectation(f, leaf).mean().backward()
        optimizer.step()
    after = squared_deviation(gradients(estimator, f, logits, 20_000)[1]).mean()
    assert after < 0.8 * before


@LEARNED
@pytest.mark.parametrize("scale", [-1.0, 1e-3, 2.0**16])
def test_the_own_gradient_follows_the_size_of_the_loss_whatever_its_sign(
    make, scale: float
) -> None:
    torch.manual_seed(1)
    estimator, logits = make(), torch.randn(8, 2, 3, requires_grad=True)
    found = []
    for factor in (1.0, scale):
        estimator.zero_grad()
        logits.grad = None
        value = estimator.expectation(network(2, 3), logits, torch.Generator().manual_seed(2))
        (factor * value.mean()).backward()
        own = [parameter.grad.clone() for parameter in estimator.parameters()]
        assert max(g.abs().max() for g in own) > 0
        found.append((own, logits.grad / factor))
    for first, second in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(second, abs(scale) * first)
    torch.testing.assert_close(found[0][1], found[1][1])


@LEARNED
def test_own_gradients_add_up_over_parts_of_a_batch(make, monkeypatch) -> None:
    torch.manual_seed(1)
    estimator, f, logits = make().double(), network(2, 3), torch.randn(8, 2, 3).double()
    uniform, weight = torch.rand(8, 2, 3).double(), torch.tensor([3.0, -1, 0, 2, 1, 1, 5, -2])
    for parameter in estimator.parameters():
        nn.init.normal_(parameter, 0, 0.3)

    def own(rows: slice) -> list[Tensor]:
        noise = -(-uniform[rows].log()).log()
        monkeypatch.setattr(control_variate, "gumbel_noise_like", lambda *_: noise.clone())
        value = estimator.expectation(f, logits[rows].requires_grad_())
        return list(torch.autograd.grad((weight[rows] * value).sum(), estimator.parameters()))

    whole = own(slice(0, 8))
    parts = [own(rows) for rows in (slice(0, 2), slice(2, 3), slice(3, 8))]
    for gradient, *several in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(several), gradient)


@LEARNED
def test_it_may_be_differentiated_twice_over_and_pulls_on_nothing_else(make) -> None:
    estimator, decoder = make(), Decoder()
    value = estimator.expectation(decoder, torch.randn(8, 2, 3, requires_grad=True))
    first, second = (
        torch.autograd.grad(value.mean(), estimator.parameters(), retain_graph=True)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(parameter.grad is None for parameter in decoder.parameters())


@LEARNED
def test_the_own_gradient_is_that_of_the_mean_square(make) -> None:
    torch.manual_seed(3)
    estimator, f = make().double(), network(2, 3)
    for parameter in estimator.parameters():
        if parameter.dim():
            nn.init.normal_(parameter, 0, 0.3)

    def mean_square() -> Tensor:
        leaf = peaked_logits(2, 3, 0.5).expand(6, 2, 3).clone().requires_grad_()
        value = estimator.expectation(f, leaf, torch.Generator().manual_seed(4))
        value.mean().backward()
        return 6 * leaf.grad.square().sum()

    mean_square()
    own = [parameter.grad.flatten()[0].clone() for parameter in estimator.parameters()]
    for parameter, gradient in zip(estimator.parameters(), own, strict=True):
        flat, around = parameter.data.view(-1), []
        for step in (1e-5, -2e-5):
            flat[0] += step
            around.append(mean_square())
        flat[0] += 1e-5
        torch.testing.assert_close((around[0] - around[1]) / 2e-5, gradient)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, code: Tensor) -> Tensor:
        return self.layer(code.flatten(2)).squeeze(-1).tanh()


@LEARNED
def test_the_parameters_of_f_learn_from_hard_draws_only(make) -> None:
    torch.manual_seed(5)
    estimator, decoder = make(), Decoder()
    logits = torch.randn(8, 2, 3, requires_grad=True)
    codes: list[Tensor] = []

    def f(code: Tensor) -> Tensor:
        if set(code.unique().tolist()) <= {0.0, 1.0}:
            codes.append(code)
        return decoder(code)

    estimator.expectation(f, logits).sum().backward()
    found = decoder.layer.weight.grad.clone()
    decoder.zero_grad()
    assert len(codes) == 1
    decoder(codes[0]).sum().backward()
    torch.testing.assert_close(found, decoder.layer.weight.grad)


@LEARNED
def test_checkpoint(make) -> None:
    torch.manual_seed(6)
    estimator, other = make(), make()
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.add_(0.1)
    state = estimator.state_dict()
    assert set(state) == {name for name, _ in estimator.named_parameters()}
    other.load_state_dict(state)
    logits = torch.randn(8, 2, 3)
    found = [
        torch.autograd.functional.jacobian(
            lambda x, e=e: e.expectation(network(2, 3), x, torch.Generator().manual_seed(7)).sum(),
            logits,
        )
        for e in (estimator, other)
    ]
    assert torch.equal(*found)


@LEARNED
def test_frozen_parts_stay(make) -> None:
    estimator = make().requires_grad_(False)
    logits = torch.randn(8, 2, 3, requires_grad=True)
    estimator.expectation(network(2, 3), logits).sum().backward()
    assert logits.grad is not None
    assert all(parameter.grad is None for parameter in estimator.parameters())


def test_the_network_of_relax_sees_no_huge_input() -> None:
    estimator = RELAX(1, 3, 8, None)
    nn.init.normal_(estimator.network[-1].weight)
    z = torch.tensor([[[0.5, -1e4, -2.0]], [[0.5, -30.0, -2.0]]])
    masked, unlikely = estimator.control(network(1, 3), z, torch.float32)
    assert masked == unlikely


def test_rebar_keeps_its_temperature_above_zero() -> None:
    estimator = REBAR(0.5)
    with torch.no_grad():
        estimator.log_tau.sub_(10)
    assert estimator.tau > 0 and "tau=" in repr(estimator)


def test_the_running_mean_moves_only_in_training_with_gradients() -> None:
    estimator, logits = Reinforce("mean", 0.5), torch.zeros(4, 1, 2, requires_grad=True)

    def f(code: Tensor) -> Tensor:
        return torch.full(code.shape[:2], 3.0)

    estimator.eval().expectation(f, logits)
    with torch.no_grad():
        estimator.train().expectation(f, logits)
    assert estimator.running_weight == 0
    estimator.expectation(f, logits)
    estimator.expectation(f, logits)
    assert estimator.running_weight == 0.75
    assert estimator.running_sum / estimator.running_weight == 3
    assert {"running_sum", "running_weight"} <= set(estimator.state_dict())


@pytest.mark.parametrize("shape", [(4, 2, 4), (4, 3, 3), (4, 3), (0, 2, 4)])
def test_relax_refuses_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="built for 2 latents of 3 codes; got logits of shape"):
        RELAX(2, 3).expectation(network(2, 3), torch.zeros(shape))
