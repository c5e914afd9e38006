"""The matrix products of a block, by the library that uses the processor's widest vectors.

torch multiplies float32 matrices by MKL, which on AMD's processors stops at AVX2 and leaves AVX-512
idle. Its convolutions are oneDNN's, which takes what there is, and a product is a convolution with
a kernel of one pixel: on an EPYC with AVX-512 it takes half the time. Who computes in bfloat16 has
products of bfloat16 where the processor has instructions for them; all else stays in float32.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from dvae.devices import multiplies_bfloat16

__all__ = [
    "BFloat16Products",
    "Convolutions",
    "MatrixProducts",
    "Products",
    "has_bfloat16_products",
    "pick_products",
]

Place = Callable[[], Tensor]
# Images that the rows are cut into. With fewer, torch may not ask oneDNN.
_IMAGES = 16


def pick_products(device: torch.device, dtype: torch.dtype) -> "Products":
    """Choose bfloat16's for bfloat16, and for float32 convolutions where MKL is known to be slower.

    It is not measured: two runs on one machine must have the same roundings.

    Args:
        device: Device of the computation.
        dtype: Dtype of the inputs; half precision is computed in float32 but for these products.
    """
    if dtype == torch.bfloat16 and has_bfloat16_products(device):
        return BFloat16Products()
    if device.type == "cpu" and dtype != torch.float64 and _has_idle_vectors():
        return Convolutions()
    return MatrixProducts()


def has_bfloat16_products(device: torch.device) -> bool:
    """Tell whether inputs in bfloat16 are multiplied as such: on a CPU with instructions for it.

    Args:
        device: Device of the computation.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return multiplies_bfloat16() is True


@cache
def _has_idle_vectors() -> bool:
    info = Path("/proc/cpuinfo")
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and info.is_file()
        and "AuthenticAMD" in info.read_text()
    )


class Products(Protocol):
    """Products of the rows of a block ``(n, c)`` and of codes ``(k, c)``."""

    def outer(self, a: Tensor, b: Tensor, bias: Tensor | None, out: Place) -> Tensor:
        """Return a b^T + bias ``(n, k)``, contiguous, in a given place or one of its own.

        Args:
            a: Rows ``(n, c)``.
            b: Codes ``(k, c)``.
            bias: One number for each code, ``(k,)``, or for each row, ``(n, 1)``.
            out: Makes the place of the result, if one is needed.
        """

    def add(self, total: Tensor, x: Tensor, b: Tensor) -> None:
        """Add x b to a sum ``(n, c)``; x is ``(n, k)`` and b ``(k, c)``."""

    def add_transposed(self, total: Tensor, x: Tensor, a: Tensor) -> None:
        """Add x^T a to a sum ``(k, c)``; x is ``(n, k)`` and a ``(n, c)``."""


class MatrixProducts:
    """Products by torch's matrix multiplication."""

    def outer(self, a: Tensor, b: Tensor, bias: Tensor | None, out: Place) -> Tensor:
        """See `Products.outer`."""
        if bias is None:
            return torch.mm(a, b.t(), out=out())
        return torch.addmm(bias, a, b.t(), out=out())

    def add(self, total: Tensor, x: Tensor, b: Tensor) -> None:
        """See `Products.add`."""
        total.addmm_(x, b)

    def add_transposed(self, total: Tensor, x: Tensor, a: Tensor) -> None:
        """See `Products.add_transposed`."""
        total.addmm_(x.t(), a)


class Convolutions:
    """Products by torch's convolution, but for rows that no images can be made of."""

    def __init__(self) -> None:
        self._plain = MatrixProducts()

    def outer(self, a: Tensor, b: Tensor, bias: Tensor | None, out: Place) -> Tensor:
        """See `Products.outer`."""
        if len(a) % _IMAGES:
            return self._plain.outer(a, b, bias, out)
        of_codes = bias is not None and bias.dim() == 1
        found = _convolve(a, b, bias if of_codes else None)
        return found if bias is None or of_codes else found.add_(bias)

    def add(self, total: Tensor, x: Tensor, b: Tensor) -> None:
        """See `Products.add`."""
        if len(x) % _IMAGES:
            return self._plain.add(total, x, b)
        total.add_(_convolve(x, b.t(), None))

    def add_transposed(self, total: Tensor, x: Tensor, a: Tensor) -> None:
        """See `Products.add_transposed`."""
        if len(x) % _IMAGES:
            return self._plain.add_transposed(total, x, a)
        kernel = x.shape[1], a.shape[1], 1, 1
        total.add_(conv2d_weight(_images(a), kernel, _images(x)).view(total.shape))


class BFloat16Products:
    """Products of numbers rounded to bfloat16, summed in float32, each sum rounded to bfloat16.

    torch has no product of bfloat16 on a CPU that gives float32; what is rounded is the sum over
    a block, as plain torch rounds that over all. Sums over blocks are in float32. Codes in an
    order in which whole blocks cancel one another lose more: with 16 blocks of weights that rise
    from -1 to 1, the gradient of the features had 2.2 times plain torch's error, without an order
    as much.
    """

    def outer(self, a: Tensor, b: Tensor, bias: Tensor | None, out: Place) -> Tensor:
        """See `Products.outer`."""
        if bias is not None and bias.dim() == 1:
            # Before the sum is rounded: of a large product a bias may leave a small logit.
            return out().copy_(torch.addmm(_half(bias), _half(a), _half(b).t()))
        found = out().copy_(_half(a) @ _half(b).t())
        return found if bias is None else found.add_(bias)

    def add(self, total: Tensor, x: Tensor, b: Tensor) -> None:
        """See `Products.add`."""
        total.add_(_half(x) @ _half(b))

    def add_transposed(self, total: Tensor, x: Tensor, a: Tensor) -> None:
        """See `Products.add_transposed`."""
        total.add_(_half(x).t() @ _half(a))


def _half(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16)


def _convolve(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    found = torch.conv2d(_images(a), b.reshape(*b.shape, 1, 1), bias)
    return found.permute(0, 2, 3, 1).reshape(len(a), len(b))


def _images(a: Tensor) -> Tensor:
    """Cut rows ``(n, c)`` into images of c channels, one pixel wide, channels last."""
    return a.reshape(_IMAGES, len(a) // _IMAGES, 1, a.shape[1]).permute(0, 3, 1, 2)
