"""Two processes start at one mean image and choose the same temperature, from their own images."""

import pytest
import torch

from tests.models.launch import ranks_of


@pytest.mark.slow
def test_all_processes_start_and_choose_the_same(tmp_path):
    one, two = ranks_of("tests.callbacks.tuned_ranks", tmp_path, 2)
    assert len(one["history"]) == 4
    assert torch.equal(one["history"], two["history"])
    assert all(torch.equal(x, two["weights"][name]) for name, x in one["weights"].items())
