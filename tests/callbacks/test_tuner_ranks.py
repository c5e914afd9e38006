"""Two processes choose the same temperature, each from its own images and noise."""

import pytest
import torch

from tests.models.launch import ranks_of


@pytest.mark.slow
def test_all_processes_choose_the_same(tmp_path):
    one, two = (found["history"] for found in ranks_of("tests.callbacks.tuned_ranks", tmp_path, 2))
    assert len(one) == 4
    assert torch.equal(one, two)
