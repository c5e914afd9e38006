"""Gumbel noise is finite and its arg-max a categorical, in every precision."""

import pytest
import torch
from scipy import stats

from dvae.functional import (
    exponential_from_bits,
    exponential_from_uniform,
    gumbel_from_uniform,
    gumbel_given_max,
    gumbel_max,
    gumbel_softmax,
    gumbel_softmax_given_max,
)
from tests.laws import FAILURE_RATE, assert_chi_square


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_finite_at_both_ends(dtype: torch.dtype) -> None:
    noise = gumbel_from_uniform(torch.tensor([0.0, 1e-30, 0.5, 1.0], dtype=dtype))
    assert noise.isfinite().all() and (noise.diff() <= 0).all()
    assert noise.dtype == dtype
    torch.testing.assert_close(noise[2], torch.tensor(0.36651292, dtype=dtype))


def test_noise_does_not_change_its_argument() -> None:
    uniform = torch.rand(10)
    before = uniform.clone()
    gumbel_from_uniform(uniform)
    assert torch.equal(uniform, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logarithm_keeps_the_digits_of_small_numbers(dtype: torch.dtype) -> None:
    exponents = torch.linspace(-32, -0.001, 20_001, dtype=torch.float64)
    uniform = torch.cat([2**exponents, 1 - 2**exponents]).to(dtype)
    uniform = uniform.clamp(2.0**-32, 1 - 2.0**-24)
    found = exponential_from_uniform(uniform)
    # The last bit of the result and half a bit of rounding in each of two logarithms.
    expected = -torch.log1p(-uniform.double())
    error = (found.double() - expected).abs() / expected
    assert error.max() <= 2 * torch.finfo(dtype).eps


def test_noise_of_bits_is_that_of_their_uniform_number() -> None:
    bits = torch.arange(0, 2**31, 99_991, dtype=torch.int32)
    bits = torch.cat([bits, torch.tensor([0, 1, 2, 2**31 - 2, 2**31 - 1], dtype=torch.int32)])
    uniform = ((bits.double() + 0.5) * 2.0**-31).clamp_max(1 - 2.0**-24)
    found = exponential_from_bits(bits)
    assert found.dtype == torch.float32 and (found > 0).all() and found.isfinite().all()
    # To a few of the last units of float32: of a small number, and of 1.
    back = -torch.expm1(-found.double())
    assert ((back - uniform).abs() <= 2.0**-21 * uniform.clamp_max(0.5)).all()


def test_noise_is_gumbel() -> None:
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    p = stats.kstest(gumbel_from_uniform(uniform).numpy(), stats.gumbel_r.cdf).pvalue
    assert p > FAILURE_RATE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "dtypes"),
    [
        (torch.float32, [torch.float16, torch.bfloat16, torch.float32]),
        (torch.float64, [torch.float64]),
    ],
    ids=["float32", "float64"],
)
def test_ten_million_draws(precision: torch.dtype, dtypes: list[torch.dtype]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = [torch.tensor([0.0, 1.5, -4.0]).to(dtype) for dtype in dtypes]
    counts = torch.zeros(len(dtypes), 3, dtype=torch.int64)
    for _ in range(10):
        uniform = torch.rand(3, 1_000_000, generator=generator, dtype=precision)
        noise = gumbel_from_uniform(uniform)
        assert noise.isfinite().all()
        for i, theta in enumerate(logits):
            counts[i] += gumbel_max(theta.unsqueeze(1), noise, dim=0).bincount(minlength=3)
    for theta, count in zip(logits, counts, strict=True):
        assert count.sum() == 10_000_000
        assert_chi_square(count, theta.double().softmax(-1))


def test_relaxation_has_both_limits() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    noise = gumbel_from_uniform(torch.rand(6, 5, dtype=torch.float64))
    index = gumbel_max(logits, noise)
    cold, hot = (gumbel_softmax(logits, noise, tau) for tau in (1e-6, 1e8))
    torch.testing.assert_close(cold, torch.nn.functional.one_hot(index, 5).double())
    torch.testing.assert_close(hot, torch.full_like(hot, 0.2))
    assert torch.autograd.gradcheck(lambda x: gumbel_softmax(x, noise, 0.7), logits)


def test_given_the_winner() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.tensor([0.3, -1.0, 2.0, -torch.inf, 0.0], dtype=torch.float64)
    noise = gumbel_from_uniform(torch.rand(2, 40_000, 5, generator=generator).double())
    index = gumbel_max(logits, noise[0])
    # Draw the winner, then everything given the winner: the same law as without the detour.
    found = gumbel_given_max(logits, index, noise[1])
    assert torch.equal(found.argmax(-1), index)
    assert (found[:, 3] == -torch.inf).all()
    expected = logits.log_softmax(-1) + noise[0]
    for k in (0, 1, 2, 4):
        p = stats.ks_2samp(found[:, k], expected[:, k]).pvalue
        assert p > FAILURE_RATE / 6
    for pair in ((0, 2), (1, 4)):
        gaps = [(x[:, pair[0]] - x[:, pair[1]]).numpy() for x in (found, expected)]
        assert stats.ks_2samp(*gaps).pvalue > FAILURE_RATE / 6


def test_given_the_winner_takes_more_noise_and_huge_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [1.0, 2.0, 3.0]])
    index = torch.tensor([0, 1])
    found = gumbel_given_max(logits, index, gumbel_from_uniform(torch.rand(7, 2, 3)))
    assert found.shape == (7, 2, 3) and found.isfinite().all()
    assert (found.argmax(-1) == index).all()
    shifted = gumbel_given_max(logits + 5, index, torch.zeros(2, 3))
    torch.testing.assert_close(shifted, gumbel_given_max(logits, index, torch.zeros(2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_given_the_winner_noise_may_be_of_another_dtype(dtype):
    logits, noise = torch.zeros(50, 3, dtype=dtype), gumbel_from_uniform(torch.rand(50, 3))
    index = torch.randint(3, (50,))
    assert torch.equal(gumbel_given_max(logits, index, noise).argmax(-1), index)


@pytest.mark.parametrize("tau", [0.05, 0.5, 1.3, 200.0])
@pytest.mark.parametrize("scale", [1.0, 30.0, 150.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relaxed_given_the_winner_is_the_softmax_of_what_is_drawn_given_it(dtype, scale, tau):
    torch.manual_seed(0)
    logits = (scale * torch.randn(40, 6)).to(dtype)
    logits[:, 2] = -torch.inf
    # Winners of every probability above 0, also those that would hardly ever be drawn.
    index = torch.randint(6, (40,)).clamp_min(3)
    exponential = exponential_from_uniform(torch.rand(6, 9, 40, dtype=dtype)).movedim(0, -1)
    exponential[0, 0] = exponential_from_uniform(torch.tensor([0.0, 1.0, 0.5] * 2, dtype=dtype))
    before = exponential.clone()
    found = gumbel_softmax_given_max(logits, index, exponential, tau)
    assert torch.equal(exponential, before)
    perturbed = gumbel_given_max(logits.double(), index, -before.double().log())
    expected = (perturbed / tau).softmax(-1).to(dtype)
    torch.testing.assert_close(found, expected)
    assert (found[..., 2] == 0).all()
