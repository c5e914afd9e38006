"""A device that is not there, on which every wait of the host is noted.

Tensors on torch's ``meta`` device have shapes and no numbers, so a step computes nothing and runs
as it would on an accelerator: by the code's own ways for what is not a CPU. What the host would
have to wait for is noted, a number read as well as a copy in either direction, and answered with
zeros, that what follows may run too.
"""

import contextlib
import traceback
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["FAKE", "FakeDevice"]

FAKE = torch.device("meta")

# What every `item`, `bool` and `tolist` comes down to.
_READ = "aten::_local_scalar_dense"
# Looks at the device's errors: one that waits, and one whose failure ends all work on it.
_CHECKS = {"aten::_linalg_check_errors", "aten::_assert_async"}
# What copies even a single number of the host to a device.
_COPYING = {
    "aten::_to_copy",
    "aten::copy_",
    "aten::where",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
}
# Results whose size depends on numbers; so does what a mask picks.
_SIZES = {
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::bincount",
    "aten::repeat_interleave",
}


class FakeDevice(TorchDispatchMode):
    """Notes each wait for the device in `waits`, while it is entered and not `resting`."""

    def __init__(self):
        super().__init__()
        self.waits = []
        self.resting = False
        self._finite = []

    def __enter__(self):
        self._patches = contextlib.ExitStack()
        for patch in _patches(self):
            self._patches.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._patches.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, to = func._schema.name, kwargs.get("device", FAKE)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        fake = [x for x in tensors if x.device == FAKE]
        if not fake and not (name == "aten::_to_copy" and to == FAKE):
            return func(*args, **kwargs)
        if name == _READ:
            self.note("a number was read")
            # All numbers are finite, for one who looks at it; beside that all is 0.
            return int(any(x is fake[0] for x in self._finite))
        if name in _CHECKS:
            self.note(f"{name} looked at the device")
            return None
        masks = args[1] if name == "aten::index" else []
        if name in _SIZES or any(x is not None and x.dtype == torch.bool for x in masks):
            self.note(f"the size of the result of {name} was read")
            raise NotImplementedError(f"{name} on the fake device")
        if name == "aten::_to_copy" and to != FAKE:
            self.note("a copy to the host")
            return torch.zeros(fake[0].shape, dtype=kwargs.get("dtype") or fake[0].dtype)
        if name == "aten::copy_" and args[0].device != FAKE:
            self.note("a copy to the host")
            return args[0].zero_()
        # A number of the host goes with the call of most kernels, but a tensor is copied.
        if any(x.device != FAKE and (x.dim() or name in _COPYING) for x in tensors):
            self.note(f"a copy to the device for {name}")
        out = func(*args, **kwargs)
        if name == "aten::all":
            self._finite.append(out)
        return out

    def note(self, what):
        """Note a wait, and the line of this project or of a library that is to blame."""
        if self.resting:
            return
        ours = [__file__, "/torch/", mock.__file__]
        frames = traceback.extract_stack()
        frame = [x for x in frames if not any(part in x.filename for part in ours)][-1]
        self.waits.append(f"{what} at {frame.filename}:{frame.lineno}")


def _patches(device):
    """Replace what no operation tells of on this device, and what it does not have."""

    def noted(make):
        def made(*args, **kwargs):
            out = make(*args, **kwargs)
            # Of a tensor the copy is an operation.
            if out.device == FAKE and not isinstance(args[-1], Tensor):
                device.note(f"{make.__name__} of what the host holds")
            return out

        return made

    for name in ("tensor", "as_tensor", "asarray"):
        yield mock.patch.object(torch, name, noted(getattr(torch, name)))
    yield mock.patch.object(Tensor, "new_tensor", noted(Tensor.new_tensor), create=True)

    real = torch.autocast.__init__

    def autocast(self, device_type, *args, **kwargs):
        # In the class, since a library may have imported it by name.
        real(self, "cpu" if device_type == FAKE.type else device_type, *args, **kwargs)

    yield mock.patch.object(torch.autocast, "__init__", autocast)
