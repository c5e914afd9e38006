"""A draw's control variate comes from the other draws alone."""

import pytest
import torch

from dvae.functional import iwae_bound, leave_one_out_advantage, vimco_advantage


@pytest.mark.parametrize("samples", [2, 3, 7])
def test_against_a_loop(samples: int) -> None:
    values = torch.randn(samples, 4, dtype=torch.float64) * 3
    mean, bound = leave_one_out_advantage(values), vimco_advantage(values)
    for s in range(samples):
        others = torch.cat([values[:s], values[s + 1 :]])
        torch.testing.assert_close(mean[s], values[s] - others.mean(0))
        replaced = values.clone()
        replaced[s] = others.mean(0)
        torch.testing.assert_close(bound[s], iwae_bound(values) - iwae_bound(replaced))


def test_stable_where_one_weight_is_everything() -> None:
    log_weights = torch.tensor([[0.0], [-200.0], [-300.0]])
    found = vimco_advantage(log_weights)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], torch.tensor([200.0]))
    assert (found[1:].abs() < 1.0).all()
