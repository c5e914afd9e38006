"""Laws of the products of a block: a convolution multiplies matrices as exactly as MKL does."""

import pytest
import torch

from dvae.kernels import products
from dvae.kernels.products import Convolutions, MatrixProducts
from tests.kernels.compare import KINDS, assert_as_good_as_plain

# Rows of which images are made, and not; one row, code or number; more than a block has.
SHAPES = [(64, 31, 200), (48, 1, 7), (16, 130, 1), (1024, 64, 513), (37, 5, 33), (1, 3, 50)]


def found(multiply, n, c, k, dtype):
    generator = torch.Generator().manual_seed(n + c + k)
    a, b, x, bias, shift = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in ((n, c), (k, c), (n, k), (k,), (n, 1))
    )
    rows, codes = torch.ones(n, c, dtype=dtype), torch.ones(k, c, dtype=dtype)
    multiply.add(rows, x, b)
    multiply.add_transposed(codes, x, a)
    outer = [
        multiply.outer(a, b, y, lambda: torch.empty(n, k, dtype=dtype)) for y in (None, bias, shift)
    ]
    assert all(y.is_contiguous() for y in outer)
    return [*outer, rows, codes]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_is_as_exact_as_a_matrix_product(shape):
    """Inputs are rounded once, and what is compared is the error of the product."""
    exact = found(MatrixProducts(), *shape, torch.float32)
    doubles = [x.float().double() for x in found(MatrixProducts(), *shape, torch.float64)]
    for ours, plain, double in zip(
        found(Convolutions(), *shape, torch.float32), exact, doubles, strict=True
    ):
        error, of_plain = ((x.double() - double).norm() / double.norm() for x in (ours, plain))
        assert error <= max(2 * of_plain, 4 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("idle", [False, True])
def test_the_fused_code_book_is_as_good_as_plain_torch_with_either(monkeypatch, idle, kind):
    monkeypatch.setattr("dvae.kernels.products._has_idle_vectors", lambda: idle)
    for dtype in (torch.float32, torch.bfloat16):
        assert_as_good_as_plain("blocked", (64, 31, 2049, 33), dtype, kind, repeats=4)


def test_only_float32_on_a_cpu_is_convolved(monkeypatch):
    monkeypatch.setattr("dvae.kernels.products._has_idle_vectors", lambda: True)
    cpu = torch.device("cpu")
    assert isinstance(products.pick_products(cpu, torch.float32), Convolutions)
    assert isinstance(products.pick_products(cpu, torch.float64), MatrixProducts)
    assert isinstance(products.pick_products(torch.device("cuda"), torch.float32), MatrixProducts)
    monkeypatch.setattr("dvae.kernels.products._has_idle_vectors", lambda: False)
    assert isinstance(products.pick_products(cpu, torch.float32), MatrixProducts)
