"""Laws of the stack: integers that nobody has pushed are draws, and pushing gives the bits back."""

import numpy as np
import pytest
import torch

from dvae.coding.ans import Stack, initial_words, quantized
from tests.laws import assert_chi_square


@pytest.mark.parametrize("codes", [2, 7, 256, 8192])
def test_rounded_probabilities_sum_to_one_and_none_is_zero(codes):
    logits = torch.randn(50, codes, generator=torch.Generator().manual_seed(codes)).double() * 4
    logits[0], logits[1, 0], logits[2, 1:] = 0, -torch.inf, -torch.inf
    table = quantized(logits.softmax(-1))
    assert table.dtype == np.float32 and (table > 0).all()
    assert (table.astype(np.float64).sum(1) == 1).all()
    assert (table * 2**22 == np.round(table * 2**22)).all()
    assert np.abs(table - logits.softmax(-1).numpy()).max() <= (codes + 1) / 2**22
    # Where probabilities are round numbers, the last digits of a sum do not decide.
    assert (quantized((logits * (1 + 1e-15)).softmax(-1)) == table).all()
    with pytest.raises(ValueError, match="not numbers"):
        quantized(logits.softmax(-1) * torch.nan)


def test_what_is_pushed_is_popped_and_leaves_nothing():
    logits = torch.randn(500, 9, generator=torch.Generator().manual_seed(0))
    table = quantized(logits.double().softmax(-1))
    symbols = torch.randint(9, (500,), generator=torch.Generator().manual_seed(1))
    stack = Stack(initial_words(1), 1)
    stack.push(symbols, table)
    expected = -np.log2(table[range(500), symbols]).sum()
    assert abs(32 * (stack.size - 1) - expected) <= 33
    assert torch.equal(stack.pop(table), symbols)
    assert np.array_equal(stack.words, initial_words(1))


def test_integers_that_nobody_pushed_follow_the_probabilities_and_give_their_bits_back():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    table = quantized(p.expand(4000, -1))
    stack = Stack(initial_words(2), 2)
    drawn = stack.draw(table)
    assert_chi_square(torch.bincount(drawn, minlength=4), p)
    assert 2 <= stack.size <= stack.initial / 4 + 4  # not many words more than were needed
    stack.push(drawn, table)
    assert np.array_equal(stack.words, initial_words(stack.initial))
    assert np.array_equal(initial_words(9)[-3:], initial_words(3))
