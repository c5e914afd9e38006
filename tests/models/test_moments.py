"""What an optimizer remembers of rows that were written to is forgotten, and nothing else."""

import pytest
import torch

from dvae.models.moments import forget_moments

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shape", [(4, 3), (4,)])
def test_a_forgotten_row_stays_where_it_is_without_a_gradient(name, shape):
    table = torch.nn.Parameter(torch.zeros(shape))
    other = torch.nn.Parameter(torch.zeros(shape))
    optimizer = OPTIMIZERS[name]([table, other])
    for _ in range(3):
        table.grad, other.grad = torch.ones(shape), torch.ones(shape)
        optimizer.step()
    rows = torch.tensor([True, False, True, False])
    forget_moments(optimizer, [(table, rows)])
    before = table.detach().clone()
    table.grad, other.grad = torch.zeros(shape), torch.zeros(shape)
    optimizer.step()
    assert torch.equal(table[rows], before[rows])
    assert (table[~rows] < before[~rows]).all()
    torch.testing.assert_close(table[~rows], other[~rows])


def test_before_its_first_step_an_optimizer_has_nothing_to_forget():
    table = torch.nn.Parameter(torch.zeros(4, 3))
    forget_moments(torch.optim.Adam([table]), [(table, torch.tensor([True] * 4))])
