"""Laws of the vector quantizers as bottlenecks."""

import inspect
import math
from pathlib import Path

import pytest
import torch

from benchmarks.fuzz.joint import GRIDS
from dvae import bottlenecks
from dvae.bottlenecks import FSQ, LFQ, VQ, DiVeQ, ResidualVQ, RotationVQ, SimVQ, Upkeep
from tests.laws import assert_chi_square
from tests.posteriors import expectation, kl, look, uniform

# As in the papers: the laws below are of one step, which is not to move the vectors before.
ASLEEP = Upkeep(kmeans=0, revive_after=0)
MAKERS = {
    "VQ": lambda: VQ(8, 4, upkeep=ASLEEP),
    "RotationVQ": lambda: RotationVQ(8, 4, upkeep=ASLEEP),
    "DiVeQ": lambda: DiVeQ(8, 4, upkeep=ASLEEP),
    "SimVQ": lambda: SimVQ(8, 4),
    "FSQ": lambda: FSQ([4, 3], 4),
    "LFQ": lambda: LFQ(8, 4),
    "ResidualVQ": lambda: ResidualVQ(8, 4, 3, upkeep=ASLEEP),
}
quantizers = pytest.mark.parametrize("name", MAKERS)


def concrete(base):
    public = {name: getattr(bottlenecks, name) for name in bottlenecks.__all__}
    return {n for n, c in public.items() if issubclass(c, base) and not inspect.isabstract(c)}


def test_every_quantizer_is_tried_here_and_in_the_docs_and_every_grid_is_fuzzed():
    quantizers = concrete(bottlenecks.Quantizer)
    assert quantizers == set(MAKERS)
    page = Path(__file__).parents[2] / "docs" / "science" / "codebooks.md"
    rows = [line.split("|")[1].strip(" `") for line in page.read_text().splitlines() if "|" in line]
    assert quantizers <= set(rows)
    assert concrete(bottlenecks.GridBottleneck) == set(GRIDS)


def make(name):
    torch.manual_seed(0)
    bottleneck = MAKERS[name]()
    bottleneck.grid = (3, 2)
    return bottleneck


def features_of(batch=5):
    return torch.randn(batch, 4, 3, 2, generator=torch.Generator().manual_seed(1))


def learned(bottleneck):
    """Return vectors, averages and counts."""
    names = ("embed", "embed_avg", "cluster_size", "steps", "uses")
    state = bottleneck.state_dict().items()
    return {key: value.clone() for key, value in state if key.rsplit(".")[-1] in names}


@quantizers
def test_encode_then_decode_is_the_hard_forward_pass(name):
    bottleneck, features = make(name).train(), features_of()
    index = look(bottleneck, features).mode()
    code = bottleneck.embed(index)
    for training in (False, True):
        q = bottleneck.train(training)(features)
        out = q.draw()
        assert torch.equal(out.index, index) and torch.equal(q.mode(), index)
        # Straight-through codes are z + (e - z): equal but for rounding. The moving averages of
        # the training pass move the code book only after it.
        torch.testing.assert_close(out.z, code, rtol=1e-4, atol=1e-5)
        assert torch.equal(q.logits.argmax(-1), index)
    samples = look(bottleneck, features).sample(2)
    assert samples.shape == (2, 5, *bottleneck.index_shape)
    assert bottleneck.embed(samples).shape == (2, 5, 4, 3, 2)


@quantizers
def test_the_rate_is_the_kl_by_enumeration(name):
    bottleneck, features = make(name), features_of()
    index = look(bottleneck, features).mode()
    integers = math.prod(bottleneck.index_shape)
    expected = torch.full((5,), integers * math.log(bottleneck.num_codes))
    torch.testing.assert_close(kl(bottleneck, features), expected)
    log_q = look(bottleneck, features).log_prob(index.unsqueeze(0))
    assert torch.equal(log_q, torch.zeros(1, 5))
    torch.testing.assert_close(log_q[0] - uniform(bottleneck).log_prob(index), expected)
    other = (index + 1) % bottleneck.num_codes
    assert (look(bottleneck, features).log_prob(other.unsqueeze(0)) == -torch.inf).all()
    assert bottleneck.num_states == bottleneck.num_codes**integers


@quantizers
def test_gradients_reach_encoder_code_book_and_decoder(name):
    bottleneck, features = make(name).train(), features_of().requires_grad_()
    decoder = torch.randn(4, requires_grad=True)
    before = {k: v.clone() for k, v in bottleneck.state_dict().items()}

    def f(code):
        return (code * decoder.view(4, 1, 1)).sum((-3, -2, -1)).sin()

    out = expectation(bottleneck, f, features)
    (encoder,) = torch.autograd.grad(out.value.sum(), features, retain_graph=True)
    assert encoder.abs().sum() > 0
    (out.value + out.loss).sum().backward()
    assert decoder.grad.abs().sum() > 0
    # By the gradient where there are parameters, by moving averages where there are none.
    parameters = list(bottleneck.parameters())
    moved = any(not torch.equal(v, before[k]) for k, v in bottleneck.state_dict().items())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    assert parameters or moved


@quantizers
def test_the_objective_does_not_change_with_the_batch_size(name):
    f = lambda z: z.flatten(2).square().sum(-1)  # noqa: E731
    one = expectation(make(name).train(), f, features_of())
    many = expectation(make(name).train(), f, features_of().repeat(4, 1, 1, 1))
    for key in ("value", "kl", "loss"):
        assert getattr(many, key).shape == (20,)
        torch.testing.assert_close(getattr(many, key).mean(), getattr(one, key).mean())


@quantizers
def test_weights_in_float64_do_as_those_in_float32(name):
    found = []
    for dtype in (torch.float32, torch.float64):
        bottleneck = make(name).train().to(dtype)
        features = features_of().to(dtype).requires_grad_()
        out = expectation(bottleneck, lambda z: z.flatten(2).square().sum(-1), features)
        (out.value + out.kl + out.loss).sum().backward()
        q = bottleneck.eval()(features)
        values = [out.value, out.kl, out.loss, features.grad, q.draw().z, q.logits]
        assert {value.dtype for value in values} == {dtype}
        found.append([*values, *learned(bottleneck).values()])
    torch.testing.assert_close(*found, check_dtype=False, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_squared_distance_of_an_example():
    bottleneck, features = make("VQ").train(), features_of()
    code = bottleneck.embed(look(bottleneck, features).mode())
    expected = 0.25 * (features - code).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(bottleneck(features).loss.mean(), expected)


@quantizers
def test_looking_changes_nothing(name):
    bottleneck, features = make(name).train(), features_of()
    before = {k: v.clone() for k, v in bottleneck.state_dict().items()}
    q = look(bottleneck, features)
    q.mode(), q.sample(2), q.entropy()
    expectation(bottleneck.eval(), lambda z: z.flatten(2).sum(-1), features)
    assert all(torch.equal(v, before[k]) for k, v in bottleneck.state_dict().items())


@quantizers
def test_counts_and_prior(name):
    bottleneck = make(name)
    prior = uniform(bottleneck).sample(2_000, torch.Generator().manual_seed(0))
    assert prior.shape == (2_000, *bottleneck.index_shape)
    counts = bottleneck.count(prior)
    assert counts.shape == bottleneck.counts_shape and counts.sum() == prior.numel()
    even = torch.full((bottleneck.num_codes,), 1 / bottleneck.num_codes)
    for row in counts.view(-1, bottleneck.num_codes):
        assert_chi_square(row, even)


def test_the_averages_are_those_of_the_paper():
    # A. van den Oord et al., 2017, appendix A.1: N_i <- g N_i + (1 - g) n_i,
    # m_i <- g m_i + (1 - g) sum of the z nearest to e_i, e_i <- m_i / N_i.
    decay = 0.9
    bottleneck = VQ(3, 2, decay=decay, upkeep=ASLEEP).train()
    vectors = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 40.0]])
    (book,) = bottleneck._books()
    book.embed[0], book.embed_avg[0] = vectors, vectors
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 1.0], [1.0, 1.0]])
    second = torch.tensor([[3.0, -1.0], [-1.0, 0.0], [5.0, 2.0], [6.0, 0.0]])
    sizes, sums = torch.ones(3), vectors.clone()
    for rows, nearest in ((first, [0, 0, 1, 0]), (second, [1, 0, 1, 1])):
        q = bottleneck(rows.T.reshape(1, 2, 2, 2))
        assert q.mode().flatten().tolist() == nearest
        for k in range(3):
            mine = [row for row, i in zip(rows, nearest, strict=True) if i == k]
            sizes[k] = decay * sizes[k] + (1 - decay) * len(mine)
            sums[k] = decay * sums[k] + (1 - decay) * sum(mine, torch.zeros(2))
        torch.testing.assert_close(book.cluster_size[0], sizes)
        torch.testing.assert_close(book.embed_avg[0], sums)
        # The library keeps N_i from 0 by 1e-5 of a feature.
        expected = sums / sizes.unsqueeze(1)
        torch.testing.assert_close(book.embed[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["VQ", "DiVeQ", "ResidualVQ"])
def test_passes_of_a_step_are_one_pass_with_all_of_their_images(kind):
    upkeep = Upkeep(kmeans=0, revive_after=9)
    one, parts = (
        {"VQ": VQ, "DiVeQ": DiVeQ, "ResidualVQ": ResidualVQ}[kind](8, 4, upkeep=upkeep).train()
        for _ in range(2)
    )
    parts.load_state_dict(one.state_dict())
    for step in range(3):
        features = step * features_of(8)  # at first all of one code
        one(features)
        before = learned(parts)
        with parts.accumulating():
            for part in features.split([3, 1, 4]):
                parts(part)
        torch.testing.assert_close(learned(parts), before, rtol=0, atol=0)
        parts.step()
        torch.testing.assert_close(learned(parts), learned(one))
        assert step or all(idle.steps.any() for idle in parts.idle)
    with parts.accumulating():
        parts(9 * features)
    parts.skip_step()
    parts.step()
    torch.testing.assert_close(learned(parts), learned(one))


@pytest.mark.parametrize("kind", ["VQ", "ResidualVQ"])
def test_dead_codes_are_revived_with_their_averages_and_stay(kind):
    torch.manual_seed(0)
    upkeep = Upkeep(kmeans=0, revive_after=5)
    bottleneck = VQ(16, 4, upkeep=upkeep) if kind == "VQ" else ResidualVQ(16, 4, 2, upkeep=upkeep)
    bottleneck.train()
    for book in bottleneck._books():
        book.embed.fill_(50.0)
        book.embed_avg.fill_(50.0)
    features = torch.randn(64, 4, 3, 2)
    for _ in range(10):
        bottleneck(features)
    for book in bottleneck._books():
        torch.testing.assert_close(
            book.embed, book.embed_avg / book.cluster_size.unsqueeze(-1), rtol=1e-3, atol=1e-3
        )
    for _ in range(30):
        bottleneck(features)
    used = bottleneck.count(look(bottleneck, features).mode()) > 0
    assert used.double().mean() > 0.9


def diveq(variance=0.5, **kwargs):
    torch.manual_seed(0)
    return DiVeQ(8, 4, variance, **{"upkeep": ASLEEP} | kwargs).train()


def test_diveq_moves_a_feature_as_in_the_paper_with_the_papers_gradient():
    bottleneck, features = diveq(), features_of().requires_grad_()
    (vectors,) = bottleneck.parameters()
    state = torch.get_rng_state()
    drawn = bottleneck(features).draw()
    # M. H. Vali et al., 2025, figure 1, with the noise of torch's generator: it is drawn again.
    torch.set_rng_state(state)
    rows = features.flatten(2).mT
    index = torch.cdist(rows, vectors[0]).argmin(-1)
    error = vectors[0][index] - rows
    direction = (error + 0.5**0.5 * torch.randn_like(error)).detach()
    length = error.norm(dim=-1, keepdim=True)
    expected = rows + direction / direction.norm(dim=-1, keepdim=True) * length
    assert torch.equal(drawn.index.flatten(1), index)
    torch.testing.assert_close(drawn.z, expected.mT.unflatten(2, (3, 2)))
    wanted = [torch.autograd.grad(z.sin().sum(), (features, vectors)) for z in (drawn.z, expected)]
    torch.testing.assert_close(*wanted)
    # As far from the feature as its vector, and not at it.
    torch.testing.assert_close((drawn.z - features).norm(dim=1).flatten(1), length.squeeze(-1))
    assert (drawn.z - bottleneck.embed(drawn.index)).norm(dim=1).min() > 1e-3


def test_diveq_draws_nothing_in_evaluation_and_takes_the_nearest_vector():
    bottleneck, features = diveq().eval(), features_of()
    state = torch.get_rng_state()
    drawn = bottleneck(features).draw()
    assert torch.equal(torch.get_rng_state(), state)
    distance = (features.unsqueeze(1) - bottleneck.vectors()[0].view(1, 8, 4, 1, 1)).norm(dim=2)
    assert torch.equal(drawn.index, distance.argmin(1))
    assert torch.equal(drawn.z, bottleneck.embed(drawn.index))


def test_diveq_without_noise_takes_the_nearest_vector_in_training_too():
    bottleneck, features = diveq(0.0), features_of().requires_grad_()
    drawn = bottleneck(features).draw()
    torch.testing.assert_close(drawn.z, bottleneck.embed(drawn.index))


def test_the_gradient_of_diveq_is_finite_at_a_vector():
    bottleneck = diveq(0.0)
    features = bottleneck.vectors()[0].T.reshape(1, 4, 4, 2).clone().detach().requires_grad_()
    bottleneck(features).draw().z.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in bottleneck.parameters())
    torch.testing.assert_close(features.grad, 2 * features.detach())


def test_only_the_optimizer_moves_the_vectors_of_diveq():
    bottleneck = diveq(upkeep=Upkeep(kmeans=0))
    before = learned(bottleneck)
    for _ in range(3):
        bottleneck(features_of().requires_grad_())
    found = learned(bottleneck)
    kept = [name for name in found if not name.startswith("idle")]
    assert kept and all(torch.equal(found[name], before[name]) for name in kept)


def test_dead_codes_of_diveq_are_revived_and_the_optimizer_is_told_of_them_alone():
    bottleneck = DiVeQ(16, 4, upkeep=Upkeep(kmeans=0, revive_after=5)).train()
    (vectors,) = bottleneck.parameters()
    with torch.no_grad():
        vectors[0, 4:] = 50.0
    features = torch.randn(64, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        assert not bottleneck.take_moved()
        bottleneck(features)
    before = vectors.detach().clone()
    bottleneck(features)
    ((parameter, rows),) = bottleneck.take_moved()
    assert parameter is vectors and not bottleneck.take_moved()
    assert torch.equal(rows, (vectors != before).any(-1)) and rows[0, 4:].all()
    for _ in range(10):
        bottleneck(features)
    used = bottleneck.count(look(bottleneck, features).mode()) > 0
    assert used.double().mean() > 0.9


@pytest.mark.parametrize("features_in", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights_in", [torch.float32, torch.float64])
def test_vectors_start_and_are_revived_in_float64_too(weights_in, features_in):
    bottleneck = ResidualVQ(8, 4, 2, upkeep=Upkeep(kmeans=3, revive_after=2)).to(weights_in).train()
    near = features_of().to(features_in)
    for features in (near, 50 + near, 50 + near, 50 + near):
        bottleneck(features)
    places = bottleneck.vectors()[0].mean(-1)
    assert bottleneck.start.done and places.dtype == weights_in
    assert (places > 40).sum() > 3, "codes were moved to where the features went"


def test_frozen_vectors_keep_still_after_their_start():
    for kind in (VQ, DiVeQ, ResidualVQ):
        bottleneck = kind(8, 4, upkeep=Upkeep(revive_after=1, frozen=True)).train()
        random = [book.embed.clone() for book in bottleneck._books()]
        bottleneck(features_of())
        started = [book.embed.clone() for book in bottleneck._books()]
        assert not any(torch.equal(a, b) for a, b in zip(random, started, strict=True))
        for _ in range(3):
            bottleneck(10 * features_of())
        now = [book.embed for book in bottleneck._books()]
        assert all(torch.equal(a, b) for a, b in zip(now, started, strict=True))
        assert not [p for p in bottleneck.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: VQ(-1), "num_codes must be an integer >= 2; got -1"),
        (lambda: SimVQ(8, -1), "code_dim must be an integer >= 1; got -1"),
        (lambda: VQ(1), "num_codes must be an integer >= 2; got 1"),
        (lambda: VQ(decay=1.0), r"VQ.decay must be in \(0, 1\); got 1"),
        (lambda: RotationVQ(commitment=-1.0), "RotationVQ.commitment must be a number >= 0"),
        (lambda: ResidualVQ(depth=1), "ResidualVQ.depth must be an integer >= 2; got 1"),
        (lambda: DiVeQ(variance=-1.0), "DiVeQ.variance must be a number >= 0; got -1.0"),
        (lambda: FSQ([8, 2]), r"FSQ.levels must be numbers >= 3; got \[8, 2\]"),
        (lambda: FSQ([]), "FSQ.levels"),
        (lambda: LFQ(500), "LFQ.num_codes must be a power of 2; got 500"),
        (lambda: SimVQ(commitment=-1.0), "SimVQ.commitment must be a number >= 0; got -1.0"),
    ],
)
def test_wrong_values_are_refused(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()
