"""Laws of the fused code book in bfloat16: products alone are rounded, draw and KL are exact."""

import pytest
import torch
from torch.nn import functional as F

from dvae.kernels import Book, Relaxation, has_bfloat16_products, sweep
from dvae.kernels.products import BFloat16Products, MatrixProducts, pick_products
from tests.kernels.compare import KINDS, SEED, SHAPES, assert_as_good_as_plain, inputs, run
from tests.kernels.test_products import SHAPES as BLOCKS
from tests.kernels.test_products import found
from tests.laws import assert_chi_square

CPU, HALF = torch.device("cpu"), torch.bfloat16
WITH = {"architecture": "x86_64", "avx512_bf16": True}
WITHOUT = {"architecture": "x86_64", "avx512_f": True}


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Torch multiplies bfloat16 on any processor: what is chosen is what is tested."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITH)


@pytest.fixture
def many_blocks(monkeypatch):
    monkeypatch.setattr("dvae.kernels.blocks._ROWS", 16)
    monkeypatch.setattr("dvae.kernels.blocks._NUMBERS", {"cpu": 16 * 64})


def relaxation_of(kind, tau=0.6):
    return Relaxation(
        torch.tensor(tau), kind != "soft", kind in ("soft", "hard"), kind == "reinmax"
    )


def test_bfloat16_is_multiplied_where_it_was_asked_for_and_there_are_instructions(monkeypatch):
    assert isinstance(pick_products(CPU, HALF), BFloat16Products)
    with torch.autocast("cpu", HALF):
        for dtype in (torch.float32, torch.float64, torch.float16):
            assert not isinstance(pick_products(CPU, dtype), BFloat16Products)
    assert not has_bfloat16_products(torch.device("cuda"))
    for name in ("amx_bf16", "avx10_2"):
        found = {"architecture": "x86_64", name: True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert has_bfloat16_products(CPU)
    for less in (WITHOUT, {"architecture": "aarch64"}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda less=less: less)
        assert not isinstance(pick_products(CPU, HALF), BFloat16Products)


@pytest.mark.parametrize("kind", KINDS)
def test_without_instructions_products_are_of_float32(monkeypatch, many_blocks, kind):
    def both(dtype):
        h, weight, bias, codebook, _ = inputs((40, 31, 130, 33), dtype)
        found = sweep(h, Book(weight, bias, codebook), relaxation_of(kind), SEED, "blocked")
        gradients = torch.autograd.grad(
            [found.code, found.kl], [h, weight], [torch.ones_like(found.code), found.kl]
        )
        return [x.to(HALF) for x in (found.code, found.kl, *gradients)]

    native = both(HALF)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT)
    lifted = both(HALF)
    for ours, single in zip(lifted, both(torch.float32), strict=True):
        assert torch.equal(ours, single)
    assert not torch.equal(native[2], lifted[2])


@pytest.mark.parametrize("shape", BLOCKS)
def test_a_product_is_as_exact_as_plain_torch_in_bfloat16(shape):
    exact = found(MatrixProducts(), *shape, torch.float64)
    plain = found(MatrixProducts(), *shape, HALF)
    ours = found(BFloat16Products(), *shape, torch.float32)
    for mine, theirs, double in zip(ours, plain, exact, strict=True):
        error, of_plain = ((x.double() - double).norm() / double.norm() for x in (mine, theirs))
        assert error <= max(2 * of_plain, torch.finfo(HALF).eps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, (64, 31, 2049, 33)])
def test_errors_are_at_most_twice_those_of_plain_torch(many_blocks, shape, kind):
    assert_as_good_as_plain("blocked", shape, HALF, kind)


def test_two_runs_are_the_same_to_the_last_bit(many_blocks):
    first, second = (run("blocked", SHAPES[3], HALF) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("compiled", [True, False])
def test_where_products_are_exact_so_are_draw_mode_and_kl(monkeypatch, many_blocks, compiled):
    """Noise, softmax and KL are those of float32: whole numbers are the same in both."""
    if not compiled:
        monkeypatch.setattr("dvae.kernels.native._native", lambda: None)
    generator = torch.Generator().manual_seed(0)
    h, weight = (torch.randint(-2, 3, s, generator=generator).float() for s in ((40, 5), (330, 5)))
    bias, codebook = torch.arange(330.0) % 7, torch.randn(330, 6, generator=generator)
    bias[:100] = -torch.inf  # more than a block of forbidden codes
    prior = torch.randn(330, generator=generator).log_softmax(0)
    relaxation = relaxation_of("straight_through")
    results = []
    for dtype, backend in ((HALF, "blocked"), (torch.float64, "reference")):
        x, *tensors = (x.to(dtype) for x in (h, weight, bias, codebook))
        results.append(sweep(x, Book(*tensors, prior), relaxation, SEED, backend))
    ours, exact = results
    assert torch.equal(ours.index, exact.index) and torch.equal(ours.mode, exact.mode)
    for name in ("kl", "log_sum"):
        value = getattr(ours, name)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), getattr(exact, name), rtol=2e-6, atol=2e-6)


def test_the_draw_is_from_the_softmax_of_the_rounded_logits():
    """They are around 40, where bfloat16 has steps of a quarter."""
    generator = torch.Generator().manual_seed(0)
    h, weight = torch.ones(1, 3, dtype=HALF), torch.randn(9, 3, generator=generator).to(HALF)
    weight[:, 0] = 40
    book = Book(weight, None, torch.randn(9, 2, generator=generator).to(HALF))
    index = sweep(h.expand(60_000, 3), book, relaxation_of("hard"), SEED, "blocked").index
    counts, logits = index.bincount(minlength=9), F.linear(h, weight).double()
    assert_chi_square(counts, logits.softmax(-1)[0])
    with pytest.raises(AssertionError):
        assert_chi_square(counts, F.linear(h.double(), weight.double()).softmax(-1)[0])


def test_a_bias_that_large_products_need_is_added_before_they_are_rounded():
    generator = torch.Generator().manual_seed(0)
    h, weight = (8 + torch.randn(s, generator=generator).to(HALF) for s in ((64, 16), (50, 16)))
    bias = -(weight.float().sum(1) * 8).to(HALF)
    product = F.linear(h.double(), weight.double())
    exact = product + bias.double()
    ours = BFloat16Products().outer(h, weight, bias.float(), lambda: torch.empty(64, 50))
    plain = F.linear(h, weight, bias)
    error, of_plain = ((x.double() - exact).norm() for x in (ours, plain))
    assert product.norm() > 8 * exact.norm()
    assert error <= 2 * of_plain


@pytest.mark.parametrize("kind", KINDS)
def test_a_saturated_softmax_has_no_gradient(many_blocks, kind):
    """The backward pass computes the logits again: to the last bit as they were."""
    h = (200 * torch.eye(33, dtype=HALF)[torch.arange(40) % 33]).requires_grad_()
    weight = torch.eye(33, dtype=HALF, requires_grad=True)
    codebook = torch.randn(33, 6, generator=torch.Generator().manual_seed(0)).to(HALF)
    relaxation = relaxation_of(kind, 1.0 if kind == "reinmax" else 0.01)
    found = sweep(h, Book(weight, None, codebook), relaxation, SEED, "blocked")
    for gradient in torch.autograd.grad(found.code.float().sum(), [h, weight]):
        assert (gradient == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_forbidden_codes_has_a_finite_code_and_no_kl(many_blocks, kind):
    h, weight, _, codebook, _ = inputs((6, 3, 90, 4), HALF)
    book = Book(weight, torch.full((90,), -torch.inf, dtype=HALF), codebook)
    found = sweep(h, book, relaxation_of(kind), SEED, "blocked")
    assert found.code.isfinite().all() and found.kl.isnan().all()


def test_a_sum_over_blocks_is_float32s():
    """In bfloat16 it would stay at 256, whatever 1 is added to it."""
    total, transposed = torch.zeros(2, 16, 4)
    for _ in range(1000):
        BFloat16Products().add(total, torch.ones(16, 1), torch.ones(1, 4))
        BFloat16Products().add_transposed(transposed, torch.ones(1, 16), torch.ones(1, 4))
    assert (total == 1000).all() and (transposed == 1000).all()
