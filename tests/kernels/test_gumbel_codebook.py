"""Laws of the fused code book: all versions agree, draw and KL are exact, memory is small."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae.estimators import GumbelSoftmax, ReinMax, StraightThrough
from dvae.functional import categorical_kl
from dvae.kernels import (
    Book,
    Relaxation,
    gumbel_codebook,
    gumbel_noise,
    reinmax_codebook,
    straight_through_codebook,
    sweep,
)
from tests.kernels.compare import KINDS, SEED, SHAPES, assert_as_good_as_plain, inputs, run
from tests.laws import assert_chi_square, fix

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(
    params=[(512, 2**17, True), (4, 28, True), (4, 28, False)],
    ids=["one_block", "many_blocks", "no_compiler"],
)
def blocks(request, monkeypatch):
    rows, numbers, native = request.param
    monkeypatch.setattr("dvae.kernels.blocks._ROWS", rows)
    monkeypatch.setattr("dvae.kernels.blocks._NUMBERS", {"cpu": numbers})
    if not native:
        monkeypatch.setattr("dvae.kernels.native._native", lambda: None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_blocked_is_as_good_as_plain_torch(blocks, shape, dtype, kind):
    assert_as_good_as_plain("blocked", shape, dtype, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(65, 31, 2049, 33), (17, 300, 65, 200), (5, 3, 9001, 11)])
def test_blocked_is_as_good_as_plain_torch_at_large_odd_sizes(shape, kind):
    assert_as_good_as_plain("blocked", shape, torch.float32, kind)


@pytest.mark.parametrize("given", [{"bias": False}, {"prior": False}])
def test_bias_and_prior_may_be_left_out(blocks, given):
    assert_as_good_as_plain("blocked", SHAPES[0], torch.float32, "soft", **given)
    assert_as_good_as_plain("blocked", SHAPES[0], torch.float64, "hard", **given)


@cuda
@pytest.mark.parametrize("backend", ["blocked", "triton"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, (300, 64, 5_000, 64), (100, 200, 300, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_is_as_good_as_plain_torch(backend, shape, dtype, kind):
    if backend == "triton" and kind == "reinmax":
        pytest.skip("Triton has no ReinMax")
    assert_as_good_as_plain(backend, shape, dtype, kind, device="cuda")


@pytest.mark.parametrize("call", [gumbel_codebook, reinmax_codebook])
@pytest.mark.parametrize("wanted", range(5))
def test_a_gradient_does_not_depend_on_which_others_are_wanted(wanted, call):
    alone, all_of_them = inputs(SHAPES[0], torch.float64), inputs(SHAPES[0], torch.float64)
    for number, leaf in enumerate(alone):
        leaf.requires_grad_(number == wanted)
    found = []
    for leaves in (alone, all_of_them):
        h, weight, bias, codebook, prior = leaves
        code, _, kl = call(h, weight, bias, codebook, 0.6, SEED, log_prior=prior, backend="blocked")
        found.append(torch.autograd.grad(code.square().sum() + kl.sum(), leaves[wanted])[0])
    assert torch.equal(*found)


def test_a_gradient_from_code_or_kl_alone_is_its_part_of_both():
    total = 0
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        leaves = inputs(SHAPES[0], torch.float64)
        h, weight, bias, codebook, prior = leaves
        code, _, kl = gumbel_codebook(
            h, weight, bias, codebook, 0.6, SEED, log_prior=prior, backend="blocked"
        )
        loss = code.square().sum() if weights[0] else kl.square().sum()
        (part,) = torch.autograd.grad(loss, h)
        total = total + part
    h, weight, bias, codebook, prior = inputs(SHAPES[0], torch.float64)
    code, _, kl = gumbel_codebook(
        h, weight, bias, codebook, 0.6, SEED, log_prior=prior, backend="reference"
    )
    (both,) = torch.autograd.grad(code.square().sum() + kl.square().sum(), h)
    torch.testing.assert_close(total, both)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_gradcheck(backend):
    def f(h, weight, bias, codebook, prior_logits):
        prior = prior_logits.log_softmax(0)
        code, _, kl = gumbel_codebook(
            h, weight, bias, codebook, 0.7, SEED, log_prior=prior, backend=backend
        )
        return code, kl

    assert torch.autograd.gradcheck(f, inputs((3, 2, 6, 2), torch.float64))


@pytest.mark.parametrize("hard", [False, True])
def test_it_is_the_estimator_with_the_same_noise(monkeypatch, hard):
    """Code, KL and gradients are those of the layer on logits, a code book behind it."""
    estimator = GumbelSoftmax(0.6, hard=hard)
    check_against(estimator, monkeypatch, SHAPES[3], hard=hard)


def test_straight_through_is_the_estimator_with_the_same_noise(monkeypatch):
    check_against(StraightThrough(1.3), monkeypatch, SHAPES[3])


def test_reinmax_is_the_estimator_with_the_same_noise(monkeypatch):
    check_against(ReinMax(1.3), monkeypatch, SHAPES[3])


def check_against(estimator, monkeypatch, shape, **hard):
    leaves = inputs(shape, torch.float64, prior=False)[:4]
    h, weight, bias, codebook = leaves
    noise = gumbel_noise(SEED, shape[0], shape[2], torch.float64)
    where = estimator if hard else "dvae.estimators.base"
    fix(monkeypatch, where, "gumbel_noise_like", noise)
    logits = torch.nn.functional.linear(h, weight, bias)
    draw = estimator.sample(logits)
    uniform = logits.new_full((shape[2],), 1 / shape[2]).log()
    expected = (draw.code @ codebook, draw.index, categorical_kl(logits, uniform))
    call = {
        GumbelSoftmax: gumbel_codebook,
        StraightThrough: straight_through_codebook,
        ReinMax: reinmax_codebook,
    }[type(estimator)]
    found = call(h, weight, bias, codebook, estimator.tau, SEED, backend="blocked", **hard)
    assert torch.equal(found[1], expected[1])
    ours, theirs = ((*out, *grads_of(out, leaves)) for out in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        # The estimator's temperature, and one over it, are float32.
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def grads_of(outputs, leaves):
    code, _, kl = outputs
    return torch.autograd.grad(code.pow(3).sum() + kl.square().sum(), leaves)


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_the_draw_is_exact_at_any_temperature_and_the_mode_is_the_mode(backend):
    generator = torch.Generator().manual_seed(0)
    weight, codebook = torch.randn(9, 3, generator=generator), torch.randn(9, 2)
    h = torch.randn(1, 3, generator=generator).expand(30_000, 3)
    book, drawn = Book(weight, None, codebook), []
    for tau in (0.05, 5.0):
        found = sweep(h, book, Relaxation(torch.tensor(tau), hard=True), 5, backend)
        drawn.append(found.index)
        assert torch.equal(found.code, codebook[found.index])
        assert (found.mode == (weight @ h[0]).argmax()).all()
    assert torch.equal(*drawn)
    assert_chi_square(drawn[0].bincount(minlength=9), (weight @ h[0]).softmax(0))
    calls = [
        gumbel_codebook(h[:1], weight, None, codebook, 1.0, s, backend=backend) for s in range(1000)
    ]
    counts = torch.cat([index for _, index, _ in calls]).bincount(minlength=9)
    likely = (weight @ h[0]).softmax(0) > 0.01
    probabilities = (weight @ h[0]).softmax(0)[likely]
    assert_chi_square(counts[likely], probabilities)


def test_a_forbidden_code_is_never_drawn_and_gives_no_nan():
    leaves = inputs((200, 5, 33, 6), torch.float64, prior=False)[:4]
    h, weight, bias, codebook = leaves
    with torch.no_grad():
        bias[:30] = -torch.inf
    results = []
    for backend in ("reference", "blocked"):
        out = gumbel_codebook(h, weight, bias, codebook, 0.6, SEED, backend=backend)
        gradients = torch.autograd.grad(out[0].square().sum() + out[2].sum(), leaves)
        results.append((*out, *gradients))
        assert (out[1] >= 30).all()
        assert all(g.isfinite().all() for g in gradients)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_logits_far_apart_give_finite_numbers():
    h, weight = torch.tensor([[300.0], [-300.0]]), torch.linspace(-30, 30, 70).unsqueeze(1)
    weight.requires_grad_()
    code, index, kl = gumbel_codebook(h, weight, None, torch.randn(70, 2), 0.05, 1)
    assert index.tolist() == [69, 0]
    torch.testing.assert_close(kl, torch.full((2,), 70.0).log())
    (gradient,) = torch.autograd.grad(code.sum() + kl.sum(), weight)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saturated_softmax_has_no_gradient(blocks, kind):
    """It is 0 in plain torch too: what is left of a difference is its rounding, over tau."""
    generator = torch.Generator().manual_seed(0)
    h = (200 * torch.eye(33)[torch.arange(40) % 33]).requires_grad_()
    weight, codebook = torch.eye(33).requires_grad_(), torch.randn(33, 6, generator=generator)
    of_code = torch.randn(40, 6, generator=generator)
    for backend in ("reference", "blocked"):
        noisy = kind in ("soft", "hard")
        tau = torch.tensor(1.0 if kind == "reinmax" else 0.01)
        relaxation = Relaxation(tau, kind != "soft", noisy, heun=kind == "reinmax")
        found = sweep(h, Book(weight, None, codebook), relaxation, SEED, backend)
        for gradient in torch.autograd.grad((found.code * of_code).sum(), [h, weight]):
            assert (gradient == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_near_saturation_it_is_as_good_as_plain_torch(blocks, kind):
    h, weight, bias, codebook, _ = inputs((800, 5, 33, 6), torch.float64)
    of_code = torch.randn(800, 6, generator=torch.Generator().manual_seed(0))
    tau = torch.tensor(1.0 if kind == "reinmax" else 0.05)
    relaxation = Relaxation(tau, kind != "soft", kind in ("soft", "hard"), kind == "reinmax")
    found = []
    for backend, dtype in (("reference", torch.float64), ("reference", None), ("blocked", None)):
        leaves = [x.detach().to(dtype or torch.float32) for x in (10 * h, weight, bias, codebook)]
        x = leaves[0].requires_grad_()
        code = sweep(x, Book(*leaves[1:]), relaxation, SEED, backend).code
        found.append(torch.autograd.grad((code * of_code.to(code)).sum(), x)[0].double())
    exact = found[0].norm(dim=1)
    rows = (exact < 1e-6) & (exact > 0)
    assert rows.sum() > 20
    plain, ours = ((g - found[0])[rows].norm() for g in found[1:])
    assert ours <= 2 * plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_a_row_of_forbidden_codes_has_no_kl(backend, kind):
    h, weight, codebook = torch.randn(6, 3), torch.randn(9, 3), torch.randn(9, 4)
    relaxation = Relaxation(
        torch.tensor(1.0), kind != "soft", kind in ("soft", "hard"), kind == "reinmax"
    )
    for forbidden in (8, 9):
        bias = torch.zeros(9).index_fill(0, torch.arange(forbidden), -torch.inf)
        kl = sweep(h, Book(weight, bias, codebook), relaxation, SEED, backend).kl
        assert (kl.isnan() if forbidden == 9 else kl.isfinite()).all()


@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_a_seed_for_each_image_gives_it_the_noise_that_it_has_alone(blocks, backend):
    h, weight, _, codebook, _ = inputs((24, 5, 33, 6), torch.float64)
    book, relaxation = Book(weight, None, codebook), Relaxation(torch.tensor(0.5), hard=False)
    seeds = torch.tensor([3, -5, 2**60, 3])
    together = sweep(h, book, relaxation, seeds, backend)
    for n, (x, code, index) in enumerate(
        zip(h.split(6), together.code.split(6), together.index.split(6), strict=True)
    ):
        alone = sweep(x, book, relaxation, seeds[n], backend)
        assert torch.equal(alone.index, index)
        torch.testing.assert_close(alone.code, code)
    with pytest.raises(ValueError, match="a multiple of the 5 seeds; got 24 rows"):
        sweep(h, book, relaxation, torch.arange(5), backend)


class Largest(TorchDispatchMode):
    """Note the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.untyped_storage().nbytes() // 4)
        return result


def test_nothing_as_large_as_rows_by_codes_is_ever_made(monkeypatch):
    monkeypatch.setattr("dvae.kernels.blocks._NUMBERS", {"cpu": 2**12})
    shape = (600, 4, 700, 4)
    with Largest() as fused:
        run("blocked", shape, torch.float32)
    with Largest() as plain:
        run("reference", shape, torch.float32)
    assert plain.numbers >= 600 * 700
    assert fused.numbers <= 2**13


def test_autocast_changes_nothing():
    expected = run("blocked", SHAPES[0], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = run("blocked", SHAPES[0], torch.float32)
    for name, x in expected.items():
        assert torch.equal(found[name], x), name


def test_no_rows_are_no_error():
    code, index, kl = gumbel_codebook(
        torch.ones(0, 3), torch.ones(5, 3), None, torch.ones(5, 2), 1.0, 0
    )
    assert code.shape == (0, 2) and index.shape == kl.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"backend": "cuda"},
            "backend must be one of auto, reference, blocked, triton; got 'cuda'",
        ),
        ({"backend": "triton"}, "backend='triton' cannot run here: .*; allowed is 'blocked'"),
        ({"tau": 0.0}, "tau must be one number above 0; got 0.0"),
        ({"h": torch.ones(2, 4, 3)}, r"h must be .* of shape \(N, C\); got .*\(2, 4, 3\)"),
        ({"weight": torch.ones(5, 4)}, r"weight must have the shape \(5, 3\); got \(5, 4\)"),
        ({"codebook": torch.ones(6, 2)}, r"codebook must have the shape \(5, 2\); got \(6, 2\)"),
        ({"codebook": torch.ones(5, 2).double()}, "codebook must have the dtype of h, .*float32"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"h": torch.ones(2, 3), "weight": torch.ones(5, 3), "bias": None}
    given |= {"codebook": torch.ones(5, 2), "tau": 1.0, "seed": 0}
    with pytest.raises(ValueError, match=message):
        gumbel_codebook(**(given | change))
