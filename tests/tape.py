"""A CUDA graph for tests on a CPU: kernels are written down once and run again on the same memory.

As a graph does, it runs no Python again and keeps what was read on the host: what moves otherwise
than in place, or by Python, is not what it was.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Tape", "record"]


class Tape(TorchDispatchMode):
    """Writes down what is run; the memory that there was before is given its numbers back."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self._before = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            if storage.data_ptr() not in self._before:
                self._before[storage.data_ptr()] = storage, storage.clone()
        out = func(*args, **kwargs)
        for storage in _storages(out):  # made here
            self._before.setdefault(storage.data_ptr(), None)
        self.calls.append((func, args, kwargs, out))
        return out

    def __enter__(self):
        self._noise = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        torch.set_rng_state(self._noise)
        for storage, numbers in filter(None, self._before.values()):
            storage.copy_(numbers)

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                # Views and what was written in place are where they were.
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _storages(values):
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, Tensor)]


def record(work):
    """Stand in for `dvae.models.captured.record`."""
    tape = Tape()
    with tape:
        work()
    return tape.replay
