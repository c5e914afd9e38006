"""Laws of the noise: its density, its independence in every direction, and its reproducibility."""

import math

import pytest
import torch
import torch.distributed as dist
from scipy import stats

from dvae.kernels import draw_seed, gumbel_noise
from dvae.kernels.noise import _log2_exponential, gumbel_block, row_keys
from tests.laws import FAILURE_RATE, assert_chi_square, assert_mean

SEED = 20_261_124


def test_the_row_keys_are_philox():
    # The known answer of the authors' Random123 for a counter and a key of zeros.
    words = [int(x) & 0xFFFFFFFF for x in row_keys(0, torch.tensor([0])).flatten()]
    assert words == [0x6627E8D5, 0xE169C58D]


@pytest.mark.parametrize("shape", [(2_000, 500), (3, 300_000)])
def test_the_noise_is_gumbel(shape):
    noise = gumbel_noise(SEED, *shape).double()
    assert noise.dtype == torch.float64 and gumbel_noise(SEED, 1, 1).dtype == torch.float32
    assert_mean(noise.flatten(), 0.5772156649)
    assert_mean((noise.flatten() - 0.5772156649).square(), math.pi**2 / 6)
    assert stats.kstest(noise.flatten().numpy(), "gumbel_r").pvalue > FAILURE_RATE


def test_the_noise_is_finite_at_both_ends():
    bits = torch.tensor([0, 1, 2**31 - 2, 2**31 - 1, -1], dtype=torch.int32)
    noise = -math.log(2) * _log2_exponential(bits, torch.empty(5))
    assert noise[0].item() == pytest.approx(32 * math.log(2))
    assert noise[0] - noise[1] > 1
    assert noise[2:].isfinite().all() and noise[2:].max() < -2.8


def neighbours(kind, lag):
    """Return two matrices of noise whose numbers at a place must be independent."""
    if kind == "seeds":
        return gumbel_noise(SEED, 500, 400), gumbel_noise(SEED + lag, 500, 400)
    rows, columns = torch.arange(500), torch.arange(400, dtype=torch.int32)
    noise = gumbel_noise(SEED, 500, 400)
    if kind == "rows":
        return noise, gumbel_block(row_keys(SEED, rows + lag), columns)
    return noise, gumbel_block(row_keys(SEED, rows), columns + lag)


@pytest.mark.parametrize("lag", [1, 2, 16, 255, 256, 2**15, 2**16, 2**17, 2**24, 2**30])
@pytest.mark.parametrize("kind", ["rows", "columns", "seeds"])
def test_rows_columns_and_seeds_are_independent(kind, lag):
    assert_independent(*neighbours(kind, lag))


@pytest.mark.parametrize("difference", [1, 2**16, 2**31 - 1])
def test_rows_that_share_a_key_are_independent(difference):
    # It happens to one pair of rows among 65,536.
    keys = torch.tensor([[[123], [123]], [[456], [456 ^ difference]]], dtype=torch.int32)
    assert_independent(*gumbel_block(keys, torch.arange(200_000, dtype=torch.int32)))


def assert_independent(first, second):
    """Test that all pairs are equally frequent: of sixteen stretches, and of four late bits."""
    cdf = [(-(-x.flatten().double()).exp()).exp() for x in (first, second)]
    for cells in ([(u * 16).long() for u in cdf], [(u * 2**20).long() % 16 for u in cdf]):
        pairs = cells[0].clamp(0, 15) * 16 + cells[1].clamp(0, 15)
        assert_chi_square(pairs.bincount(minlength=256), torch.ones(256))


def test_nothing_repeats():
    keys = torch.cat([row_keys(seed, torch.arange(50_000)) for seed in range(4)], 1).squeeze(-1)
    assert len(keys.t().unique(dim=0)) == 200_000
    noise = torch.cat([gumbel_noise(seed, 64, 4) for seed in range(SEED, SEED + 64)])
    assert len(noise.unique(dim=0)) == len(noise)
    # Seeds that differ in their upper half only, and rows beyond 32 bits.
    assert not torch.equal(gumbel_noise(1, 2, 2), gumbel_noise(1 + 2**32, 2, 2))
    far = row_keys(1, torch.tensor([0, 2**32, 2**33])).squeeze(-1)
    assert len(far.t().unique(dim=0)) == 3


def test_blocks_do_not_matter():
    whole = gumbel_noise(SEED, 7, 11)
    keys = row_keys(torch.tensor(SEED), torch.arange(3, 6))
    columns = torch.arange(4, 9, dtype=torch.int32)
    assert torch.equal(gumbel_block(keys, columns), whole[3:6, 4:9])
    assert torch.equal(gumbel_noise(torch.tensor(SEED), 7, 11), whole)


def test_a_seed_comes_from_the_generator_and_the_rank(monkeypatch):
    def seeds():
        generator = torch.Generator().manual_seed(0)
        return [draw_seed(generator).item() for _ in range(5)]

    assert seeds() == seeds() and len(set(seeds())) == 5
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    of_ranks = []
    for rank in range(64):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        of_ranks += [draw_seed().item(), draw_seed().item()]
    assert len(set(of_ranks)) == 128
    # A generator of one's own is taken at its word.
    assert draw_seed(torch.Generator().manual_seed(0)).item() == seeds()[0]
