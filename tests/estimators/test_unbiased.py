"""Unbiased estimators, their mean against the exact gradient: enumerated, integrated, drawn.

Where one class is ahead by 20 the others have probability 1e-9 and no plain sample sees them, so
the draws are enumerated with their probabilities; for the estimators that use the noise itself
the noise is integrated over, given each draw.
"""

import itertools

import pytest
import torch
from torch import Tensor

from dvae.estimators import (
    ARMS,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    DisARM,
    Estimator,
    ExactEnumeration,
    Reinforce,
)
from dvae.functional import gumbel_given_max
from tests.estimators.catalogue import name
from tests.laws import (
    all_tuples,
    assert_mean,
    exact_gradient,
    exact_value,
    fix,
    gradients,
    network,
    peaked_logits,
    probability,
)

GAPS = [0.0, 8.0, 20.0]
SIZES = [(codes, latents) for codes in (2, 3, 10) for latents in (1, 2, 3)]
SCORE = "dvae.estimators.score_function"


def check(weights: Tensor, value: Tensor, gradient: Tensor, latents: int, logits: Tensor) -> None:
    """Compare weighted means over all draws with the exact value and gradient."""
    f = network(latents, logits.shape[-1])
    torch.testing.assert_close(weights.sum(), torch.ones((), dtype=weights.dtype))
    torch.testing.assert_close((weights * value).sum(), exact_value(f, logits))
    mean = torch.einsum("n,nlk->lk", weights, gradient)
    expected = exact_gradient(f, logits)
    # Relative to the largest entry: at gap 20 all of them are as small as 1e-9.
    torch.testing.assert_close(mean / expected.abs().max(), expected / expected.abs().max())


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("codes", "latents"), SIZES)
def test_exact_enumeration_is_the_gradient(codes: int, latents: int, gap: float) -> None:
    logits = peaked_logits(latents, codes, gap)
    value, gradient = gradients(ExactEnumeration(), network(latents, codes), logits, 1)
    check(torch.ones(1, dtype=torch.float64), value, gradient, latents, logits)


def few_draws() -> list[tuple[Estimator, int, int]]:
    """Pair estimators with sizes whose draws can be listed; the rest is drawn below."""
    estimators = [Reinforce("none"), RLOO(2), VIMCO(2), RLOO(3)]
    return [
        (estimator, codes, latents)
        for estimator in estimators
        for codes, latents in SIZES
        if codes ** (latents * getattr(estimator, "samples", 1)) < 20_000
    ]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("estimator", "codes", "latents"), few_draws(), ids=name)
def test_score_function_over_all_draws(
    monkeypatch: pytest.MonkeyPatch, estimator: Estimator, codes: int, latents: int, gap: float
) -> None:
    samples = getattr(estimator, "samples", 1)
    tuples = all_tuples(codes, latents * samples).unflatten(1, (samples, latents))
    logits = peaked_logits(latents, codes, gap)
    fix(monkeypatch, SCORE, "draw_index", tuples.transpose(0, 1))
    value, gradient = gradients(estimator, network(latents, codes), logits, len(tuples))
    check(probability(logits, tuples).prod(1), value, gradient, latents, logits)


def draw_reweighted(
    logits: Tensor, samples: int, copies: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw indices ``(N, copies, L)``, half the time one of them blindly; return them and p/q."""
    latents, codes = logits.shape
    probs = logits.softmax(-1)
    rows = [row.multinomial(samples * copies, True, generator=generator) for row in probs]
    index = torch.stack(rows, -1).view(samples, copies * latents)
    which = torch.randint(copies * latents, (samples, 1), generator=generator)
    anything = torch.randint(codes, (samples, 1), generator=generator)
    blind = torch.rand(samples, 1, generator=generator) < 0.5
    index = torch.where(blind, index.scatter(1, which, anything), index)
    index = index.view(samples, copies, latents)
    likely = probs.expand(*index.shape, codes).gather(-1, index.unsqueeze(-1)).flatten(1)
    return index, 1 / (0.5 + 0.5 * (1 / codes / likely).mean(1))


def assert_close_to_enumeration(gradient: Tensor, expected: Tensor) -> None:
    """Test the mean of samples ``(N, L, K)``, and that there are enough of them to tell."""
    # Relative to the largest entry: at gap 20 all of them are as small as 1e-9.
    samples = gradient / expected.abs().max()
    assert (samples.std(0) / len(samples) ** 0.5).max() < 0.1
    assert_mean(samples, expected / expected.abs().max())


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("codes", "latents"), [(3, 3), (10, 2), (10, 3)])
@pytest.mark.parametrize("estimator", [RLOO(2), VIMCO(2), RLOO(3)], ids=name)
def test_score_function_reweighted(
    monkeypatch: pytest.MonkeyPatch, estimator: Estimator, codes: int, latents: int, gap: float
) -> None:
    generator = torch.Generator().manual_seed(4)
    logits, f = peaked_logits(latents, codes, gap), network(latents, codes)
    index, weight = draw_reweighted(logits, 40_000, estimator.samples, generator)
    fix(monkeypatch, SCORE, "draw_index", index.transpose(0, 1))
    value, gradient = gradients(estimator, f, logits, len(index))
    assert_mean(weight * value, exact_value(f, logits))
    assert_close_to_enumeration(weight[:, None, None] * gradient, exact_gradient(f, logits))


@pytest.mark.parametrize("gap", [-20.0, -8.0, -0.3, 0.0, 0.7, 8.0, 20.0])
@pytest.mark.parametrize("latents", [1, 2, 3])
def test_disarm_over_all_pairs(monkeypatch: pytest.MonkeyPatch, latents: int, gap: float) -> None:
    logits = peaked_logits(latents, 2, gap)
    phi = logits[:, 1] - logits[:, 0]
    # Noise below -|phi|, between and above gives the three pairs of draws there are.
    outcome = all_tuples(3, latents) - 1
    rare = torch.sigmoid(-phi.abs())
    weights = torch.where(outcome == 0, 1 - 2 * rare, rare).prod(1)
    noise = outcome * (phi.abs() + 1)
    fix(monkeypatch, DisARM(), "gumbel_noise_like", torch.stack([-noise / 2, noise / 2], -1))
    value, gradient = gradients(DisARM(), network(latents, 2), logits, len(outcome))
    check(weights, value, gradient, latents, logits)


def arms_patterns(logit: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """List what n coupled bits can be and how probable it is, by inclusion and exclusion."""
    rare = torch.sigmoid(-logit.abs())
    reach = 1 - rare ** (1 / (samples - 1))
    bits = all_tuples(2, samples).bool()
    # P[d_i > r for i in a set of m] = (1 - m r)^(n-1) under Dirichlet(1_n).
    at_least = [(1 - m * reach).clamp_min(0) ** (samples - 1) for m in range(samples + 1)]
    weights = []
    for row in bits:
        rest = samples - int(row.sum())
        terms = [
            (-1) ** len(extra) * at_least[int(row.sum()) + len(extra)]
            for size in range(rest + 1)
            for extra in itertools.combinations(range(rest), size)
        ]
        weights.append(torch.stack(terms).sum())
    return bits ^ (logit > 0), torch.stack(weights)


@pytest.mark.parametrize("gap", [-20.0, -8.0, -0.3, 0.0, 0.7, 8.0, 20.0])
@pytest.mark.parametrize(("samples", "latents"), [(2, 1), (2, 3), (3, 1), (3, 2), (4, 2), (6, 1)])
def test_arms_over_all_patterns(
    monkeypatch: pytest.MonkeyPatch, samples: int, latents: int, gap: float
) -> None:
    logits = peaked_logits(latents, 2, gap)
    patterns = [arms_patterns(phi, samples) for phi in logits[:, 1] - logits[:, 0]]
    choice = all_tuples(2**samples, latents)
    bits = torch.stack([patterns[i][0][choice[:, i]] for i in range(latents)], -1)
    weights = torch.stack([patterns[i][1][choice[:, i]] for i in range(latents)]).prod(0)
    fix(monkeypatch, ARMS(), "arms_bits", bits.transpose(0, 1))
    value, gradient = gradients(ARMS(samples), network(latents, 2), logits, len(choice))
    check(weights, value, gradient, latents, logits)


def learned(latents: int, codes: int) -> list[Estimator]:
    """Build REBAR and RELAX with parameters away from where they start."""
    torch.manual_seed(0)
    rebar, relax, alone = REBAR(0.7), RELAX(latents, codes, 8), RELAX(latents, codes, 8, None)
    with torch.no_grad():
        rebar.eta.fill_(0.8)
        for estimator in (relax, alone):
            for parameter in estimator.network.parameters():
                parameter.normal_(0, 0.2)
    return [rebar, relax, alone]


def exponential_grid(dimensions: int, step: float) -> tuple[Tensor, Tensor]:
    """Return nodes log E ``(N, dimensions)`` and weights of a quadrature over Exp(1) noise.

    In t = log E the density exp(t - e^t) is analytic and vanishes at both ends, where the
    trapezoidal rule converges exponentially.
    """
    t = torch.arange(-36.0, 4.0, step, dtype=torch.float64)
    weight = (t - t.exp()).exp() * step
    nodes = torch.cartesian_prod(*[t] * dimensions)
    return nodes, torch.cartesian_prod(*[weight] * dimensions).prod(-1)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("codes", "step"), [(2, 0.2), (3, 0.6)])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["rebar", "relax", "relax-network"])
def test_control_variates_integrated_over_their_noise(
    monkeypatch: pytest.MonkeyPatch, which: int, codes: int, step: float, gap: float
) -> None:
    estimator = learned(1, codes)[which].double()
    logits, f = peaked_logits(1, codes, gap), network(1, codes)
    log_e, weight = exponential_grid(codes, step)
    mean = torch.zeros_like(logits)
    for winner in range(codes):
        index = torch.full((len(log_e), 1), winner)
        scores = gumbel_given_max(logits, index, -log_e.unsqueeze(1))
        noise = scores - logits.log_softmax(-1)
        fix(monkeypatch, "dvae.estimators.control_variate", "gumbel_noise_like", noise)
        _, gradient = gradients(estimator, f, logits, len(log_e))
        total = torch.einsum("n,nlk->lk", weight, gradient)
        mean += total * logits.softmax(-1)[0, winner]
    expected = exact_gradient(f, logits)
    scale = expected.abs().max()
    torch.testing.assert_close(mean / scale, expected / scale, atol=1e-4, rtol=1e-4)


def exponential_reweighted(
    samples: int, latents: int, codes: int, gap: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw log E ``(N, L, K)``, half the time one of them at any order of magnitude, and p/q.

    What a gradient of order exp(-gap) consists of happens where a loser comes near the winner.
    """
    low, high = -gap - 6, 3.0
    noise = torch.empty(samples, latents * codes, dtype=torch.float64)
    t = noise.exponential_(generator=generator).log()
    which = torch.randint(latents * codes, (samples, 1), generator=generator)
    anywhere = torch.empty(samples, 1, dtype=torch.float64).uniform_(low, high, generator=generator)
    blind = torch.rand(samples, 1, generator=generator) < 0.5
    t = torch.where(blind, t.scatter(1, which, anywhere), t)
    inside = ((t > low) & (t < high)) / (high - low)
    weight = 1 / (0.5 + 0.5 * (inside / (t - t.exp()).exp()).mean(1))
    return t.unflatten(1, (latents, codes)), weight


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(("codes", "latents"), SIZES)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["rebar", "relax", "relax-network"])
def test_control_variates_reweighted(
    monkeypatch: pytest.MonkeyPatch, which: int, codes: int, latents: int, gap: float
) -> None:
    estimator = learned(latents, codes)[which].double().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    logits, f = peaked_logits(latents, codes, gap), network(latents, codes)
    index, weight = draw_reweighted(logits, 150_000, 1, generator)
    index = index.squeeze(1)
    log_e, noise_weight = exponential_reweighted(len(index), latents, codes, gap, generator)
    noise = gumbel_given_max(logits, index, -log_e) - logits.log_softmax(-1)
    fix(monkeypatch, "dvae.estimators.control_variate", "gumbel_noise_like", noise)
    value, gradient = gradients(estimator, f, logits, len(index))
    weight = weight * noise_weight
    assert_mean(weight * value, exact_value(f, logits))
    assert_close_to_enumeration(weight[:, None, None] * gradient, exact_gradient(f, logits))


@pytest.mark.parametrize("gap", [0.0, 2.0])
@pytest.mark.parametrize(("codes", "latents"), [(2, 3), (3, 2), (10, 1)])
def test_with_the_noise_they_draw_themselves(codes: int, latents: int, gap: float) -> None:
    torch.manual_seed(2)
    estimators = [Reinforce("none"), RLOO(), VIMCO(), *learned(latents, codes)]
    if codes == 2:
        estimators += [DisARM(), ARMS(2), ARMS(3), ARMS(8)]
    logits, f = peaked_logits(latents, codes, gap), network(latents, codes)
    for estimator in estimators:
        value, gradient = gradients(estimator, f, logits, 20_000)
        assert_mean(value, exact_value(f, logits))
        assert_mean(gradient, exact_gradient(f, logits))


def test_a_running_baseline_keeps_it_unbiased() -> None:
    torch.manual_seed(3)
    estimator, f = Reinforce("mean"), network(2, 3)
    logits = peaked_logits(2, 3, 1.0)
    gradients(estimator, f, logits, 100)
    assert estimator.running_weight > 0
    value, gradient = gradients(estimator, f, logits, 20_000)
    assert_mean(value, exact_value(f, logits))
    assert_mean(gradient, exact_gradient(f, logits))


@pytest.mark.parametrize(
    "estimator",
    [Reinforce(), RLOO(), VIMCO(), DisARM(), ARMS(), RELAX(3, 2, tau=None), ExactEnumeration()],
    ids=name,
)
def test_f_need_not_be_differentiable(estimator: Estimator) -> None:
    def f(code: Tensor) -> Tensor:
        return (code.argmax(-1).sum(-1) % 2).float()

    _, gradient = gradients(estimator, f, torch.randn(5, 3, 2))
    assert gradient.isfinite().all()
