"""The fake device notes what makes a host wait for a real one, and nothing else."""

import pytest
import torch

from tests.fake_device import FAKE, FakeDevice


def on_device(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=FAKE)


WAITS = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum() > 0),
    "float": lambda x: float(x[0]),
    "tolist": lambda x: x.sum().tolist(),
    "copy to the host": lambda x: x.cpu(),
    "copy into a tensor of the host": lambda x: torch.zeros(3).copy_(x),
    "copy to the device": lambda x: torch.zeros(3).to(FAKE),
    "copy of a scalar": lambda x: torch.tensor(1.0).to(FAKE),
    "copy into a tensor of the device": lambda x: x.copy_(torch.zeros(3)),
    "a scalar of the host in a choice": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "tensor": lambda x: torch.tensor([1.0, 2.0], device=FAKE),
    "tensor of a number": lambda x: torch.tensor(1.0, device=FAKE),
    "as_tensor": lambda x: torch.as_tensor(1.0, device=FAKE),
    "as_tensor of a tensor": lambda x: torch.as_tensor(torch.zeros(3), device=FAKE),
    "new_tensor": lambda x: x.new_tensor(1.0),
    "a check of what was solved": lambda x: torch.linalg.solve(torch.outer(x, x), x),
    "an assertion": lambda x: torch._assert_async(x.sum() > 0),
    "indices of the host": lambda x: x[torch.tensor([0, 1])],
}
SIZES = {
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
}
FREE = {
    "a number in an expression": lambda x: 2 * x + 1.0,
    "a scalar of the host in an expression": lambda x: x * torch.tensor(2.0),
    "fill": lambda x: x.fill_(2.0),
    "fill by a scalar of the host": lambda x: x.fill_(torch.tensor(2.0)),
    "full": lambda x: torch.full((3,), 2.0, device=FAKE),
    "new_full": lambda x: x.new_full((3,), 2.0),
    "gather": lambda x: x[x.long()],
    "what was solved, unchecked": lambda x: torch.linalg.solve_ex(torch.outer(x, x), x),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "masked_fill": lambda x: x.masked_fill(x > 0, 0.0),
    "another dtype": lambda x: x.to(torch.float64),
    "as_tensor of the device's own": lambda x: torch.as_tensor(x, device=FAKE),
    "what the host does by itself": lambda x: torch.tensor([1.0, 2.0]).sum().item(),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_is_noted(what):
    x = on_device(3)
    with FakeDevice() as device:
        WAITS[what](x)
    assert len(device.waits) == 1
    assert "test_fake_device.py" in device.waits[0]


@pytest.mark.parametrize("what", SIZES)
def test_a_size_that_is_waited_for_is_noted_and_unknown(what):
    with FakeDevice() as device, pytest.raises(NotImplementedError):
        SIZES[what](on_device(3))
    assert len(device.waits) == 1


@pytest.mark.parametrize("what", FREE)
def test_what_no_host_waits_for_is_not_noted(what):
    x = on_device(3)
    with FakeDevice() as device:
        FREE[what](x)
    assert not device.waits


def test_waits_in_a_backward_pass_are_noted():
    class Peek(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * grad.sum().item() + grad.new_tensor(1.0)

    x = on_device(3).requires_grad_()
    with FakeDevice() as device:
        Peek.apply(x).sum().backward()
    assert len(device.waits) == 2
