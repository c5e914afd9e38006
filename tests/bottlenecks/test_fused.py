"""Laws of the fused path of a code book: it is the plain one, value, gradient, KL and usage."""

import logging

import pytest
import torch

from dvae.bottlenecks import ProjectedCodebook, Upkeep, fused, fused_posterior
from dvae.estimators import RLOO, DecoupledGumbelSoftmax, GumbelSoftmax, ReinMax, StraightThrough
from dvae.kernels import gumbel_noise, sweep
from dvae.priors import CategoricalPrior, UniformPrior
from tests.laws import assert_chi_square, assert_same_mean, fix
from tests.posteriors import expectation, kl, look, priced

SEED = 31
ASLEEP = Upkeep(kmeans=0, revive_after=0)
ESTIMATORS = [GumbelSoftmax(0.7), GumbelSoftmax(0.7, hard=True), StraightThrough(1.2), ReinMax(1.2)]
IDS = ["soft", "hard", "straight_through", "reinmax"]


def make(kernel, estimator, codes=37, upkeep=ASLEEP):
    torch.manual_seed(0)
    bottleneck = ProjectedCodebook(codes, 3, 4, estimator, upkeep=upkeep, kernel=kernel)
    bottleneck.grid = (2, 5)
    return bottleneck.train()


def learned_prior(bottleneck):
    prior = priced(CategoricalPrior(), bottleneck)
    with torch.no_grad():
        prior.logits.copy_(torch.linspace(-1, 1, bottleneck.num_codes))
    return prior


def features_of(batch=3, height=2, width=5):
    return torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(1))


def f(code):
    return code.flatten(2).cos().sum(-1) + code[:, :, 0, 0, 0] * code[:, :, 1, 0, 1]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_with_the_same_noise_both_paths_are_the_same(monkeypatch, estimator, learned):
    noise = gumbel_noise(SEED, 30, 37).view(3, 2, 5, 37)
    where = estimator if isinstance(estimator, GumbelSoftmax) else "dvae.estimators.base"
    fix(monkeypatch, where, "gumbel_noise_like", noise)
    monkeypatch.setattr(fused, "draw_seed", lambda *_: torch.tensor([SEED]))
    found = []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, estimator)
        prior = learned_prior(bottleneck) if learned else None
        features = features_of().requires_grad_()
        out = expectation(bottleneck, f, features, prior=prior)
        wanted = [features, bottleneck.codebook, *bottleneck.projection.parameters()]
        wanted += [prior.logits] if learned else []
        loss = out.value.sum() + (out.kl * torch.tensor([1.0, 2.0, 3.0])).sum()
        found.append((out.value, out.kl, out.loss, *torch.autograd.grad(loss, wanted)))
    for plain, blocked in zip(*found, strict=True):
        torch.testing.assert_close(blocked, plain, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_with_noise_of_their_own_both_paths_have_the_same_means(estimator):
    values, gradients = [], []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, estimator, codes=5)
        features = features_of(1, 1, 2).expand(4_000, -1, -1, -1).detach().requires_grad_()
        out = expectation(bottleneck, lambda z: z.flatten(2).prod(-1).tanh(), features)
        values.append(out.value)
        gradients.append(torch.autograd.grad(out.value.sum(), features)[0].flatten(1))
    assert_same_mean(*values)
    assert_same_mean(*gradients)


def test_start_revival_and_usage_are_the_same():
    steps = []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, GumbelSoftmax(), upkeep=Upkeep(kmeans=2, revive_after=3))
        seen = []
        for step in range(8):
            torch.manual_seed(step)  # the two draw different amounts of noise
            expectation(bottleneck, f, features_of() + step)
            seen += [bottleneck.idle.steps.clone(), bottleneck.codebook.detach().clone()]
        steps.append(seen)
    assert steps[0][0].sum() > 0
    for plain, blocked in zip(*steps, strict=True):
        assert torch.equal(plain, blocked)


def test_evaluation_is_reproducible_and_changes_nothing():
    bottleneck = make("blocked", GumbelSoftmax(), upkeep=Upkeep()).eval()
    before = {name: x.clone() for name, x in bottleneck.state_dict().items()}
    with torch.no_grad():
        values = [
            expectation(bottleneck, f, features_of(), torch.Generator().manual_seed(2)).value
            for _ in range(2)
        ]
    assert torch.equal(*values)
    assert all(torch.equal(x, before[name]) for name, x in bottleneck.state_dict().items())


def test_auto_chooses_by_size_and_estimator_and_says_so_once(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "dvae")
    monkeypatch.setattr(fused, "_CROSSOVER", 30 * 37)
    for estimator, batch, said in (
        (GumbelSoftmax(), 3, "kernel blocked (auto) for 30 positions of 37 codes on cpu"),
        (GumbelSoftmax(), 2, "kernel plain (auto) for 20 positions of 37 codes on cpu"),
        (RLOO(), 3, "kernel plain (auto) for 30 positions of 37 codes on cpu"),
    ):
        caplog.clear()
        bottleneck = make("auto", estimator)
        for _ in range(2):
            expectation(bottleneck, f, features_of(batch))
        assert [record.getMessage() for record in caplog.records] == [f"code book: {said}"]


def test_logits_that_are_no_categorical_are_refused():
    features = features_of()
    features[1, 2, 1, 3] = torch.nan
    for kernel in ("plain", "blocked"):
        with pytest.raises(ValueError, match="finite maximum in every row"):
            expectation(make(kernel, GumbelSoftmax()), f, features)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_forbidden_codes_are_never_drawn_and_nothing_else_is_refused(estimator):
    for forbidden in ([0, 5, 36], range(1, 37), range(37)):
        for kernel in ("plain", "blocked"):
            bottleneck = make(kernel, estimator)
            with torch.no_grad():
                bottleneck.projection.bias[list(forbidden)] = -torch.inf
            if len(forbidden) == 37:
                with pytest.raises(ValueError, match="finite maximum in every row"):
                    expectation(bottleneck, f, features_of())
                assert kl(bottleneck, features_of()).isnan().all()
                continue
            assert expectation(bottleneck, f, features_of()).kl.isfinite().all()
            drawn = look(bottleneck, features_of()).sample(4)
            assert not torch.isin(drawn, torch.tensor(list(forbidden))).any()


@pytest.mark.parametrize("kernel", ["plain", "blocked", "auto"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (4, 1)])
def test_what_an_image_draws_does_not_depend_on_the_images_beside_it(monkeypatch, kernel, sizes):
    # Between the size of the whole and that of its parts.
    monkeypatch.setattr(fused, "_CROSSOVER", 45 * 37)
    bottleneck = make(kernel, GumbelSoftmax()).eval()
    features = features_of(5)

    def drawn(parts, samples):
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            return torch.cat([look(bottleneck, x).sample(samples, generator) for x in parts], 1)

    def relaxed(parts):
        generator = torch.Generator().manual_seed(3)
        found = [expectation(bottleneck, f, x, generator).value for x in parts]
        return torch.cat(found)

    for samples in (1, 3):
        assert torch.equal(drawn(features.split(sizes), samples), drawn([features], samples))
    torch.testing.assert_close(relaxed(features.split(sizes)), relaxed([features]))
    # No two images, and no two samples, have the same noise.
    alike = drawn([features[:1].expand(5, -1, -1, -1)], 3).flatten(0, 1).flatten(1)
    assert len(alike.unique(dim=0)) == 15


@pytest.mark.parametrize("estimator", ESTIMATORS[1:], ids=IDS[1:])
def test_a_hard_draw_is_the_exact_one_of_the_same_seed(estimator):
    bottleneck, seen = make("blocked", estimator).eval(), []
    with torch.no_grad():
        expectation(
            bottleneck,
            lambda z: seen.append(z[0]) or z.flatten(2).sum(-1),
            features_of(),
            torch.Generator().manual_seed(4),
        )
        index = look(bottleneck, features_of()).sample(1, torch.Generator().manual_seed(4))
    assert torch.equal(seen[0], bottleneck.embed(index[0]))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
@pytest.mark.parametrize(
    ("capabilities", "dtype", "training", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True}, torch.bfloat16, True, torch.bfloat16),
        ({"architecture": "x86_64", "avx512_bf16": True}, torch.bfloat16, False, torch.float32),
        ({"architecture": "x86_64", "avx512_bf16": True}, torch.float32, True, torch.float32),
        ({"architecture": "x86_64", "avx512_bf16": True}, torch.float16, True, torch.float32),
        ({"architecture": "x86_64", "avx512_f": True}, torch.bfloat16, True, torch.float32),
    ],
)
def test_features_in_bfloat16_are_multiplied_as_such_in_training_where_a_cpu_can(
    monkeypatch, estimator, capabilities, dtype, training, expected
):
    def watched(rows, book, *args):
        assert {x.dtype for x in (rows, book.weight, book.bias, book.codebook)} == {expected}
        return sweep(rows, book, *args)

    def gradients(x):
        bottleneck = make("blocked", estimator).train(training)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            out = expectation(bottleneck, lambda z: z.float().square().flatten(2).sum(-1), x)
        assert out.kl.dtype == torch.float32
        wanted = [x, bottleneck.codebook, *bottleneck.projection.parameters()]
        return torch.autograd.grad(out.value.sum() + out.kl.sum(), wanted)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(fused, "sweep", watched)
    features = features_of().to(dtype).requires_grad_()
    found = gradients(features)
    expected = torch.float32
    lifted = gradients(features.detach().float().requires_grad_())
    assert [x.dtype for x in found] == [dtype, *3 * [torch.float32]]
    for ours, single in zip(found, lifted, strict=True):
        assert (ours.float() - single).norm() <= 0.03 * single.norm()


def test_another_estimator_in_its_place_is_computed_as_such():
    torch.manual_seed(0)
    found = []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, GumbelSoftmax(hard=True)).eval()
        bottleneck.estimator = RLOO(4)
        features = features_of().requires_grad_()
        value = expectation(bottleneck, f, features, torch.Generator().manual_seed(5)).value
        found.append((value, *torch.autograd.grad(value.sum(), features)))
    for plain, blocked in zip(*found, strict=True):
        assert torch.equal(plain, blocked)


@pytest.mark.parametrize(
    ("kernel", "estimator", "message"),
    [
        ("fast", GumbelSoftmax(), "kernel must be one of auto, plain, blocked, triton; got 'fast'"),
        ("blocked", RLOO(), "kernel='blocked' needs the estimator .*; got RLOO"),
        ("triton", ReinMax(), "kernel='triton' has no ReinMax; allowed with it are .* blocked"),
        ("triton", DecoupledGumbelSoftmax(), "kernel='triton' needs .* DecoupledGumbelSoftmax"),
    ],
)
def test_what_does_not_go_together_is_refused(kernel, estimator, message):
    with pytest.raises(ValueError, match=message):
        make(kernel, estimator)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_triton_without_a_gpu_is_refused():
    pytest.importorskip("triton", reason="triton is not installed")
    with pytest.raises(ValueError, match="needs a CUDA device and got cpu"):
        expectation(make("triton", GumbelSoftmax()), f, features_of())


def test_draw_mode_and_kl_need_no_matrix_and_are_the_same():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(3, 4, 2, 5, generator=generator)
    state = torch.get_rng_state()
    found = []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, ReinMax()).eval()
        prior = learned_prior(bottleneck)
        torch.set_rng_state(state)
        with torch.no_grad():
            q = bottleneck(features, prior)
            found.append((q.mode(), q.kl(prior)))
        # Neither of them is random.
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_a_draw_without_matrices_is_exact():
    features = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(3))
    bottleneck = make("blocked", GumbelSoftmax(), codes=5).eval()
    with torch.no_grad():
        grid = features.expand(200, -1, 5, 4)
        drawn = look(bottleneck, grid).sample(3, torch.Generator().manual_seed(4))
        again = look(bottleneck, grid).sample(3, torch.Generator().manual_seed(4))
        probabilities = look(bottleneck, features).logits.flatten().softmax(0)
    assert drawn.shape == (3, 200, 5, 4)
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn[0], drawn[1])
    assert_chi_square(drawn.flatten().bincount(minlength=5), probabilities)


class OnAGpu:
    """What a choice looks at of features on a GPU, of which there is none here."""

    device, dtype = torch.device("cuda"), torch.float32

    def __init__(self, *shape):
        self.shape = shape

    def __len__(self):
        return self.shape[0]


def test_on_a_gpu_the_quicker_is_taken_and_memory_decides_where_plain_is(monkeypatch):
    def ask(estimator=None, width=64, half=False, free=2**36, refused=""):
        monkeypatch.setattr(fused, "triton_refusal", lambda *given: refused)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**37))
        estimator = GumbelSoftmax() if estimator is None else estimator
        choice = fused.KernelChoice("auto", estimator)
        return choice(estimator, OnAGpu(128, 8, 8, width), torch.empty(512, width), True, half)

    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)

    assert ask(half=True) == "triton"
    assert ask() is None  # exact float32: matrices of logits are quicker, while there is room
    assert ask(free=2**20) == "triton"
    assert ask(free=2**20, refused="it is too wide") == "blocked"
    assert ask(half=True, estimator=ReinMax()) is None
    assert ask(free=2**20, estimator=ReinMax()) == "blocked"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert ask() == "triton"
    assert ask(width=256) is None


def test_what_asks_for_triton_is_looked_at_on_a_cpu():
    bottleneck = ProjectedCodebook(16, 4, 8, GumbelSoftmax(), kernel="triton").eval()
    features = torch.randn(2, 8, 3, 3)
    assert look(bottleneck, features).sample(2).shape == (2, 2, 3, 3)
    with pytest.raises(ValueError, match="triton.*needs a CUDA device"):
        expectation(bottleneck.train(), lambda z: z.flatten(2).sum(-1), features)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_what_evaluation_asks_for_is_the_same_and_takes_one_sweep(monkeypatch, estimator, learned):
    sweeps, products = [], []
    monkeypatch.setattr(fused, "sweep", _noted(fused.sweep, sweeps))
    monkeypatch.setattr(fused_posterior, "sweep", _noted(fused_posterior.sweep, sweeps))
    index = torch.randint(37, (1, 3, 2, 5), generator=torch.Generator().manual_seed(7))
    found = []
    for kernel in ("plain", "blocked"):
        bottleneck = make(kernel, estimator).eval()
        prior = learned_prior(bottleneck) if learned else priced(UniformPrior(), bottleneck)
        monkeypatch.setattr(bottleneck, "_logits", _noted(bottleneck._logits, products))
        with torch.no_grad():
            q = bottleneck(features_of(), prior)
            drawn = q.sample(1, torch.Generator().manual_seed(8))
            noise = torch.Generator().manual_seed(8)
            values: list = []
            q.expectation(lambda z, _, seen=values: seen.append(z) or z.flatten(2).sum(-1), noise)
            after = torch.rand(1, generator=noise)
            found.append((q.kl(prior), q.mode(), q.log_prob(index)))
            if not learned:
                found[-1] += (q.entropy(),)
        if kernel == "blocked":
            assert len(sweeps) == 1 and not products
            if estimator.__class__ is not GumbelSoftmax or estimator.hard:
                assert torch.equal(values[0][0], bottleneck.embed(drawn[0]))
            # The generator that was not drawn from goes on as if it had been.
            fresh = torch.Generator().manual_seed(8)
            bottleneck(features_of(), prior).sample(1, fresh)
            assert torch.equal(torch.rand(1, generator=fresh), after)
        products.clear()
    for plain, blocked in zip(*found, strict=True):
        torch.testing.assert_close(blocked, plain, rtol=1e-5, atol=1e-4)


def test_other_noise_and_a_gradient_are_swept_anew():
    bottleneck = make("blocked", GumbelSoftmax()).eval()
    features = features_of().requires_grad_()
    q = bottleneck(features)
    with torch.no_grad():
        first, second = (q.sample(1, torch.Generator().manual_seed(s)) for s in (1, 2))
        assert not torch.equal(first, second)
        q.sample(3, torch.Generator().manual_seed(1))
        assert torch.equal(q.sample(1, torch.Generator().manual_seed(1)), first)
    value = q.expectation(lambda z, _: z.flatten(2).sum(-1), torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(value.sum(), features)
    assert gradient.abs().sum() > 0


def _noted(function, calls):
    def call(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("rows", [10**6, 60])
def test_many_draws_are_one_sweep_and_those_of_many_sweeps(monkeypatch, rows):
    sweeps = []
    real = fused_posterior.sweep
    monkeypatch.setattr(
        fused_posterior, "sweep", lambda h, *a: sweeps.append(len(h)) or real(h, *a)
    )
    monkeypatch.setattr(fused_posterior, "_ROWS", rows)
    bottleneck, features = make("blocked", GumbelSoftmax(0.7)), features_of()
    q = look(bottleneck, features)
    found = q.sample(5, torch.Generator().manual_seed(3))
    # Of 30 positions each: all at once, or as many as there is room for.
    assert sweeps == ([150] if rows == 10**6 else [60, 60, 30])
    assert q._found.index.shape == q._found.kl.shape == (30,)
    # Each draw of an image has a seed of its own, and finds what a sweep with that seed finds.
    seeds = fused.fused_seed(3, "blocked", features.device, torch.Generator().manual_seed(3), (5,))
    alone = [q._draw_only(None, seed).index.view(3, 2, 5) for seed in seeds]
    assert torch.equal(found, torch.stack(alone))
    assert len({tuple(one.flatten().tolist()) for one in found}) == 5
