"""What stochastic tests share: one failure rate, tests of a mean and of counts, exact sums."""

import itertools
import sys
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from dvae.estimators import Estimator

# The chance that a right program fails a stochastic test at a seed chosen blindly. All tests are
# seeded, so what passes once passes always; the rate says how much a pass is worth.
FAILURE_RATE = 2e-5

Objective = Callable[[Tensor], Tensor]


def assert_mean(samples: Tensor, expected: Tensor | float) -> None:
    """Test that independent samples ``(N, ...)`` have a mean, in every component at once."""
    samples = samples.detach().double()
    expected = torch.as_tensor(expected, dtype=torch.float64).expand(samples.shape[1:])
    error = samples.std(0) / len(samples) ** 0.5
    assert_within(samples.mean(0), expected, error, len(samples) - 1)


def assert_within(mean: Tensor, expected: Tensor, error: Tensor, freedom: int) -> None:
    """Test a mean with a known standard error, Bonferroni-corrected over the components."""
    assert torch.isfinite(mean).all()
    width = float(stats.t.isf(FAILURE_RATE / 2 / max(mean.numel(), 1), freedom))
    # Rounding of the mean itself, where the samples are (nearly) constant.
    rounding = 1e-6 * expected.abs().clamp_min(1e-3)
    excess = (mean - expected).abs() - (width * error + rounding)
    assert (excess <= 0).all(), f"mean {mean}, expected {expected}, standard error {error}"


def assert_same_mean(first: Tensor, second: Tensor) -> None:
    """Test that two sets of samples ``(N, ...)`` have the same mean in every component."""
    a, b = first.detach().double(), second.detach().double()
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    assert_within(a.mean(0), b.mean(0), error, min(len(a), len(b)) - 1)


def assert_smaller(smaller: Tensor, larger: Tensor) -> None:
    """Test that the mean of samples ``(N,)`` is significantly below that of others."""
    a, b = smaller.detach().double(), larger.detach().double()
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    score = float((a.mean() - b.mean()) / error)
    assert stats.norm.cdf(score) < FAILURE_RATE, f"{a.mean():.4g} is not below {b.mean():.4g}"


def assert_chi_square(counts: Tensor, probabilities: Tensor) -> None:
    """Test counts against probabilities by Pearson's chi-square; a forbidden class has 0."""
    counts, p = counts.double().flatten(), probabilities.double().flatten()
    assert counts[p == 0].sum() == 0
    counts, p = counts[p > 0], p[p > 0] / p.sum()
    expected = p * counts.sum()
    assert expected.min() >= 5, "too few draws for a chi-square test"
    statistic = float(((counts - expected) ** 2 / expected).sum())
    if len(counts) == 1:  # certain: there is nothing to test past the forbidden classes
        return
    assert stats.chi2.sf(statistic, len(counts) - 1) > FAILURE_RATE, f"chi-square {statistic:.1f}"


def squared_deviation(gradients: Tensor) -> Tensor:
    """Return each sample's squared distance to the mean: its average is the total variance."""
    flat = gradients.detach().flatten(1)
    return (flat - flat.mean(0)).square().sum(1)


def network(latents: int, codes: int) -> Objective:
    """Build an f that is not polynomial, maps ``(S, B, L, K)`` to ``(S, B)``."""
    generator = torch.Generator().manual_seed(latents * 100 + codes)
    first = torch.randn(latents * codes, 7, generator=generator, dtype=torch.float64)
    last = torch.randn(7, generator=generator, dtype=torch.float64) * 2

    def f(code: Tensor) -> Tensor:
        hidden = (code.flatten(2) @ first.to(code.dtype)).tanh()
        return hidden @ last.to(code.dtype) + 1

    return f


def peaked_logits(latents: int, codes: int, gap: float) -> Tensor:
    """Return logits ``(L, K)`` in float64, one class ahead by about a gap; 0 is uniform."""
    generator = torch.Generator().manual_seed(codes)
    noise = torch.randn(latents, codes, generator=generator, dtype=torch.float64)
    winner = torch.arange(latents).unsqueeze(1) % codes
    ahead = torch.zeros(latents, codes, dtype=torch.float64).scatter(1, winner, gap)
    return ahead + (0.3 * noise if gap else 0)


def all_tuples(codes: int, length: int) -> Tensor:
    """List all ``K^length`` index tuples, ``(K^length, length)``."""
    return torch.tensor(list(itertools.product(range(codes), repeat=length)))


def probability(logits: Tensor, index: Tensor) -> Tensor:
    """Return q of index tuples ``(N, ..., L)`` under logits ``(L, K)``: ``(N, ...)``."""
    probs = logits.softmax(-1).expand(*index.shape, -1)
    return probs.gather(-1, index.unsqueeze(-1)).squeeze(-1).prod(-1)


def one_hot(index: Tensor, codes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.nn.functional.one_hot(index, codes).to(dtype)


def exact_value(f: Objective, logits: Tensor) -> Tensor:
    """Sum f over all codes of logits ``(L, K)``, differentiably: what estimators estimate."""
    latents, codes = logits.shape
    index = all_tuples(codes, latents)
    return (probability(logits, index) * f(one_hot(index, codes).unsqueeze(0)).squeeze(0)).sum()


def exact_gradient(f: Objective, logits: Tensor) -> Tensor:
    leaf = logits.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact_value(f, leaf), leaf)
    return gradient


def gradients(
    estimator: Estimator, f: Objective, logits: Tensor, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run an estimator on copies of logits ``(L, K)``; return values ``(B,)``, gradients."""
    leaf = logits if batch is None else logits.expand(batch, *logits.shape)
    leaf = leaf.detach().clone().requires_grad_()
    value = estimator.expectation(f, leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def fix(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, result: Tensor) -> None:
    """Let a function that an estimator's module imported return a given tensor."""
    module = sys.modules[owner if isinstance(owner, str) else type(owner).__module__]
    monkeypatch.setattr(module, name, lambda *args, **kwargs: result.clone())
