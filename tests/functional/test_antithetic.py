"""Coupled bits: each a Bernoulli, each pair as probable as the formula says."""

import pytest
import torch

from dvae.functional import arms_bits, arms_debias
from tests.laws import assert_chi_square


def exponential(samples: int, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(samples, count, generator=generator, dtype=torch.float64)
    return -uniform.clamp_min(1e-30).log()


@pytest.mark.parametrize("samples", [2, 3, 4, 10])
@pytest.mark.parametrize("logit", [-3.0, -0.4, 0.0, 0.4, 3.0])
def test_margins_and_pairs(samples: int, logit: float) -> None:
    phi = torch.tensor(logit, dtype=torch.float64)
    bits = arms_bits(phi.expand(60_000), exponential(samples, 60_000, samples))
    p = phi.sigmoid()
    for i in range(samples):
        assert_chi_square(bits[i].long().bincount(minlength=2), torch.stack([1 - p, p]))
    rare = torch.minimum(p, 1 - p)
    both = (2 * rare ** (1 / (samples - 1)) - 1).clamp_min(0) ** (samples - 1)
    neither = 1 - 2 * rare + both
    # For p above one half the two ends change places: the table's 2p - 1 + rho(1 - p).
    ends = torch.stack([both, neither]) if logit > 0 else torch.stack([neither, both])
    pair = bits[0].long() + bits[1].long()
    table = torch.stack([ends[0], 2 * (rare - both), ends[1]])
    assert_chi_square(pair.bincount(minlength=3), table)
    factor = p * (1 - p) / (p - ends[1])
    torch.testing.assert_close(arms_debias(phi, samples), factor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stable_at_the_ends(dtype: torch.dtype) -> None:
    phi = torch.tensor([-torch.inf, -1e4, -50.0, -20.0, 20.0, 50.0, 1e4, torch.inf], dtype=dtype)
    for samples in (2, 3, 10, 100):
        factor = arms_debias(phi, samples)
        assert factor.isfinite().all() and (factor >= 0.5).all() and (factor <= 1).all()
        torch.testing.assert_close(factor[0], torch.ones((), dtype=dtype))
        bits = arms_bits(phi, exponential(samples, 8, 1).to(dtype))
        assert not bits[:, :3].any() and bits[:, 5:].all()


def test_a_rare_bit_is_seen_in_float32() -> None:
    # One exponential a billion times smaller than the other: 1 - d would round to 0.
    noise = torch.tensor([[1.0], [1e-9]])
    bits = arms_bits(torch.tensor([-20.0]), noise)
    assert bits.flatten().tolist() == [True, False]
