"""The noise of a draw: fine in its tails, and one stream however it is cut."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from dvae.estimators.base import exponential_noise, gumbel_noise_like
from tests.laws import FAILURE_RATE

MANY, FEW = 2**22, 2**10


def smallest(noise: Tensor) -> Tensor:
    """Return the smallest of many exponential numbers, in order: those that win an arg-max."""
    return noise.flatten().topk(FEW, largest=False).values


def assert_few_ties(noise: Tensor) -> None:
    # The smallest are spread evenly over [0, FEW / MANY) and a grid of 2^-31, so this many pairs
    # of neighbours are expected to be equal; on one of 2^-24 it were 128 times as many.
    ties = int((smallest(noise).diff() == 0).sum())
    expected = FEW**2 / 2 / (FEW / MANY * 2**31)
    assert stats.poisson.sf(ties - 1, expected) > FAILURE_RATE, ties


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_numbers_that_win_hardly_ever_tie(dtype: torch.dtype) -> None:
    like, generator = torch.zeros(4, MANY // 4, dtype=dtype), torch.Generator().manual_seed(0)
    assert_few_ties(exponential_noise(like.shape, like, generator))
    # And so after the second logarithm, whose float32 is as fine in the tail.
    assert_few_ties(gumbel_noise_like(like, generator).neg().exp())


@pytest.mark.slow
def test_compiled_noise_hardly_ever_ties() -> None:
    torch.manual_seed(0)
    draw = torch.compile(lambda x: exponential_noise(x.shape, x), fullgraph=True)
    noise = draw(torch.zeros(MANY))
    assert_few_ties(noise)
    assert stats.kstest(noise[:100_000].numpy(), stats.expon.cdf).pvalue > FAILURE_RATE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tail_is_that_of_gumbel_noise(dtype: torch.dtype) -> None:
    like = torch.zeros(MANY, dtype=dtype)
    noise = gumbel_noise_like(like, torch.Generator().manual_seed(1))
    assert stats.kstest(noise[:100_000].numpy(), stats.gumbel_r.cdf).pvalue > FAILURE_RATE
    # Of independent uniform numbers the smallest are spread evenly below the next one.
    few = smallest((-noise.double()).exp())
    assert stats.kstest((few[:-1] / few[-1]).numpy(), stats.uniform.cdf).pvalue > FAILURE_RATE


@pytest.mark.parametrize("cuts", [(1, 1), (7, 3, 90), (100,), (0, 5, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_halves_of_noise_are_the_whole(cuts: tuple[int, ...], dtype: torch.dtype) -> None:
    codes = 1_999  # a hundred rows are cut into parts within a row
    whole = torch.zeros(sum(cuts), codes, dtype=dtype)
    one, other = (torch.Generator().manual_seed(2) for _ in range(2))
    parts = [gumbel_noise_like(part, other) for part in whole.split(cuts)]
    assert torch.equal(gumbel_noise_like(whole, one), torch.cat(parts))


def test_the_layout_of_the_logits_is_none_of_the_noise() -> None:
    turned = torch.zeros(5, 3, 4).movedim(0, -1)
    copies = torch.zeros(4, 5).expand(3, 4, 5)
    plain = torch.zeros(3, 4, 5)
    found = [
        gumbel_noise_like(x, torch.Generator().manual_seed(3)) for x in (turned, copies, plain)
    ]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[2])


@pytest.mark.parametrize("shape", [(3, 10), (3, 70_000)])
def test_each_entry_of_a_vmap_has_noise_of_its_own(shape: tuple[int, int]) -> None:
    noise = torch.func.vmap(gumbel_noise_like, randomness="different")(torch.zeros(shape))
    assert noise.shape == shape and len(noise.unique(dim=0)) == 3
