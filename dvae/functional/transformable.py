"""Autograd functions that `torch.func` can transform, as quick as those that it cannot."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["Transformable"]


class Transformable(Function):
    """A function with `setup_context`, as the transforms of `torch.func` (grad, vmap) want it.

    A subclass has `forward(*inputs)`, `setup_context` and `backward`, and is called by `call`.
    Outside of transforms that is the function in autograd's older form, `forward(ctx, *inputs)`: a
    call of the newer one takes forty microseconds more, a tenth of a small layer's step.
    """

    generate_vmap_rule = True
    _plain: type[Function]

    def __init_subclass__(cls) -> None:
        """Write the older form."""
        super().__init_subclass__()

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = cls.forward(*inputs)
            cls.setup_context(ctx, inputs, output)
            return output

        methods = {"forward": staticmethod(forward), "backward": staticmethod(cls.backward)}
        cls._plain = type(f"{cls.__name__}Plain", (Function,), methods)

    @classmethod
    def call(cls, *inputs: Any) -> Any:
        """Evaluate the function, differentiably."""
        if torch.compiler.is_compiling():
            wanted = any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
            # Without a gradient the compiler goes into it, and takes a list for a context.
            return (cls.apply if wanted and torch.is_grad_enabled() else cls.forward)(*inputs)
        try:
            return cls._plain.apply(*inputs)
        except RuntimeError:
            # Within a transform, which refuses the older form before anything is computed. What
            # else there is to be said is said again.
            return cls.apply(*inputs)
