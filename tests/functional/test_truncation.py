"""Laws of logits that are sharpened or cut before a draw."""

import pytest
import torch

from dvae.functional import truncate_logits


@pytest.fixture
def logits():
    return torch.tensor([0.5, 0.25, 0.15, 0.1]).log()[[2, 0, 3, 1]].expand(3, 4).clone()


def test_by_default_nothing_changes(logits):
    assert torch.equal(truncate_logits(logits), logits)
    assert torch.equal(truncate_logits(logits, top_k=9), logits)


def test_a_temperature_takes_powers_of_the_probabilities(logits):
    found = truncate_logits(logits, temperature=0.5).softmax(-1)
    squares = logits.exp().square()
    torch.testing.assert_close(found, squares / squares.sum(-1, keepdim=True))


@pytest.mark.parametrize(("k", "left"), [(1, 1), (2, 2), (3, 3)])
def test_the_most_probable_are_left(logits, k, left):
    found = truncate_logits(logits, top_k=k)
    assert (found > -torch.inf).sum(-1).tolist() == [left] * 3
    assert torch.equal(found.argmax(-1), logits.argmax(-1))


def test_no_more_are_left_where_some_are_alike():
    found = truncate_logits(torch.zeros(3, 4), top_k=2)
    assert (found == 0).sum(-1).tolist() == [2] * 3
    assert (found == -torch.inf).sum(-1).tolist() == [2] * 3


@pytest.mark.parametrize(("p", "left"), [(1e-9, 1), (0.49, 1), (0.51, 2), (0.76, 3), (0.95, 4)])
def test_the_fewest_are_left_that_have_the_probability(logits, p, left):
    found = truncate_logits(logits, top_p=p)
    assert (found > -torch.inf).sum(-1).tolist() == [left] * 3
    kept = found > -torch.inf
    assert torch.equal(found[kept], logits[kept])
    assert (logits.exp() * kept).sum(-1).min() >= p
