"""Laws of the code books: enumeration, gradients, a code that survives the round trip, revival."""

import itertools
import math

import pytest
import torch

from dvae.bottlenecks import DistanceCodebook, ProjectedCodebook, Upkeep
from dvae.estimators import (
    ARMS,
    VIMCO,
    DisARM,
    ExactEnumeration,
    GumbelSoftmax,
    ReinMax,
    StraightThrough,
)
from dvae.functional import categorical_entropy, kmeans, squared_distance
from dvae.priors import CategoricalPrior
from tests.estimators.catalogue import everything, name
from tests.laws import assert_chi_square, assert_mean
from tests.posteriors import expectation, kl, look, priced, uniform

ASLEEP = Upkeep(kmeans=0, revive_after=0)


def make(kind, codes=3, dim=4, **kwargs):
    kwargs = {"upkeep": ASLEEP} | kwargs
    torch.manual_seed(0)
    if kind is ProjectedCodebook:
        kwargs["in_features"] = 4
    bottleneck = kind(codes, dim, **kwargs)
    bottleneck.grid = (1, 2)
    return bottleneck


def features_of(batch=5, height=1, width=2, scale=1.0):
    return scale * torch.randn(batch, 4, height, width, generator=torch.Generator().manual_seed(1))


KINDS = [ProjectedCodebook, DistanceCodebook]
kinds = pytest.mark.parametrize("kind", KINDS)


def learned_prior(bottleneck, logits):
    prior = priced(CategoricalPrior(), bottleneck)
    with torch.no_grad():
        prior.logits.copy_(torch.as_tensor(logits))
    return prior


@kinds
@pytest.mark.parametrize("learned", [False, True])
def test_kl_is_the_sum_over_all_codes(kind, learned):
    bottleneck = make(kind)
    prior = learned_prior(bottleneck, [0.5, -1.0, 2.0]) if learned else uniform(bottleneck)
    features = features_of()
    states = bottleneck.states(0, bottleneck.num_states)
    grids = [((a, b),) for a, b in itertools.product(range(3), repeat=2)]
    assert sorted(tuple(map(tuple, s)) for s in states.tolist()) == grids
    log_q = look(bottleneck, features).log_prob(states.unsqueeze(1).expand(-1, 5, -1, -1))
    log_p = prior.log_prob(states)
    torch.testing.assert_close(log_q.exp().sum(0), torch.ones(5))
    assert log_p.exp().sum().item() == pytest.approx(1)
    expected = (log_q.exp() * (log_q - log_p.unsqueeze(1))).sum(0)
    torch.testing.assert_close(kl(bottleneck, features, prior), expected)
    torch.testing.assert_close(bottleneck(features, prior).kl(prior), expected)
    entropy = -(log_q.exp() * log_q).sum(0)
    torch.testing.assert_close(bottleneck(features).entropy(), entropy)


@kinds
def test_the_expectation_is_the_sum_over_all_codes(kind):
    bottleneck, features = make(kind, estimator=ExactEnumeration()), features_of()
    weights = torch.randn(8)

    def f(code):
        assert code.shape[1:] == (5, 4, 1, 2)
        return (code.flatten(2) @ weights).tanh()

    states = bottleneck.states(0, 9)
    log_q = look(bottleneck, features).log_prob(states.unsqueeze(1).expand(-1, 5, -1, -1))
    values = f(bottleneck.embed(states).unsqueeze(1).expand(-1, 5, -1, -1, -1))
    expected = (log_q.exp() * values).sum(0)
    torch.testing.assert_close(expectation(bottleneck, f, features).value, expected)


@kinds
def test_the_distance_penalty_is_the_expected_distance(kind):
    bottleneck, features = make(kind), features_of()
    loss = expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features).loss
    if kind is ProjectedCodebook:
        assert torch.equal(loss, torch.zeros(5))
        return
    rows = features.permute(0, 2, 3, 1)
    distance = (rows.unsqueeze(-2) - bottleneck.codebook).square().sum(-1)
    q = look(bottleneck, features).logits.softmax(-1)
    torch.testing.assert_close(q, (-distance / 2).softmax(-1))
    torch.testing.assert_close(loss, (q * distance / 2).sum((1, 2, 3)))


@kinds
@pytest.mark.parametrize(
    ("codes", "estimator"),
    # The binary ones need two codes.
    [(3, e) for e in everything(2, 3)] + [(2, e) for e in (DisARM(), ARMS(2), ARMS(5))],
    ids=name,
)
def test_gradients_reach_encoder_code_book_and_decoder(kind, codes, estimator):
    bottleneck = make(kind, codes, estimator=estimator).train()
    prior = priced(CategoricalPrior(), bottleneck)
    # Many, since the antithetic draws of a sharp posterior are often the same, and say nothing.
    features = features_of(100).requires_grad_()
    decoder = torch.randn(8, requires_grad=True)
    f = lambda z: (z.flatten(2) * decoder).sum(-1).tanh()  # noqa: E731
    out = expectation(bottleneck, f, features, prior=prior)
    inputs = [features, bottleneck.codebook, decoder, prior.logits]
    for gradient in torch.autograd.grad((out.value - out.kl - out.loss).sum(), inputs):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    # The estimator's own path, without the help of the KL.
    out = expectation(bottleneck, f, features)
    (gradient,) = torch.autograd.grad(out.value.sum(), features)
    assert gradient.abs().sum() > 0


@kinds
def test_encode_then_decode_is_the_hard_forward_pass(kind):
    bottleneck, features = make(kind, estimator=GumbelSoftmax(0.7)).eval(), features_of(5, 3, 2)
    index = bottleneck(features).mode()
    assert torch.equal(index, look(bottleneck, features).logits.argmax(-1))
    code = torch.nn.functional.one_hot(index, 3).float()
    torch.testing.assert_close(bottleneck.mix(code), bottleneck.embed(index))
    samples = look(bottleneck, features).sample(7)
    assert samples.shape == (7, 5, 3, 2)
    assert bottleneck.embed(samples).shape == (7, 5, 4, 3, 2)


@kinds
@pytest.mark.parametrize("copies", [2, 5])
def test_the_objective_does_not_change_with_the_batch_size(kind, copies):
    bottleneck, features = make(kind, estimator=ExactEnumeration()).train(), features_of()
    f = lambda z: z.flatten(2).square().sum(-1)  # noqa: E731
    one = expectation(bottleneck, f, features)
    many = expectation(bottleneck, f, features.repeat(copies, 1, 1, 1))
    for key in ("value", "kl", "loss"):
        torch.testing.assert_close(getattr(many, key).mean(), getattr(one, key).mean())


@kinds
@torch.no_grad()
def test_draws_follow_the_posterior_and_the_prior_and_no_batch(kind):
    bottleneck, features = make(kind), features_of(2, scale=0.5)
    draws = look(bottleneck, features).sample(5_000, torch.Generator().manual_seed(0))
    probabilities = look(bottleneck, features).logits.softmax(-1)
    for example, position in itertools.product(range(2), range(2)):
        counts = draws[:, example, 0, position].bincount(minlength=3)
        assert_chi_square(counts, probabilities[example, 0, position])
    generator = torch.Generator().manual_seed(0)
    singly = [look(bottleneck, x).sample(5_000, generator) for x in features.split(1)]
    assert torch.equal(torch.cat(singly, 1), draws)
    prior = learned_prior(bottleneck, [0.5, -1.0, 2.0])
    prior = prior.sample(10_000, torch.Generator().manual_seed(0))
    assert prior.shape == (10_000, 1, 2)
    counts = bottleneck.count(prior)
    assert_chi_square(counts, torch.tensor([0.5, -1.0, 2.0]).softmax(0))


@kinds
def test_the_bound_of_one_draw_is_the_elbo_in_expectation(kind):
    bottleneck = make(kind, estimator=StraightThrough())
    features = features_of(1).expand(20_000, -1, -1, -1)
    f = lambda z: z.flatten(2).sum(-1).tanh()  # noqa: E731
    exact = make(kind, estimator=ExactEnumeration())
    out = expectation(exact, f, features[:1])
    with torch.no_grad():
        prior = uniform(bottleneck)
        joint = lambda z, code: f(z) + prior.log_prob(code)  # noqa: E731
        elbo = (out.value - out.kl).detach().squeeze()
        assert_mean(bottleneck(features).bound(joint, 1), elbo)
        many = make(kind, estimator=VIMCO())(features[:500]).bound(joint, 4).mean()
    assert many > (out.value - out.kl).mean()


@kinds
def test_half_precision_features_are_lifted_to_float32(kind):
    bottleneck, features = make(kind), features_of()
    assert look(bottleneck, features.bfloat16()).logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert look(bottleneck, features).logits.dtype == torch.float32
        out = expectation(bottleneck, lambda z: z.float().flatten(2).sum(-1), features)
    torch.testing.assert_close(out.kl, kl(bottleneck, features))


def test_kmeans_finds_clusters_and_never_gets_worse():
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(4, 3, generator=generator)
    points = centers.repeat(50, 1) + 0.1 * torch.randn(200, 3, generator=generator)
    start = centers + torch.randn(4, 3, generator=generator)
    found = kmeans(points, start, 5)
    assert squared_distance(centers, found).amin(-1).max() < 0.01
    start = points[:7]
    errors = [
        squared_distance(points, kmeans(points, start, i)).amin(-1).sum().item() for i in range(6)
    ]
    assert errors == sorted(errors, reverse=True)


def blobs(batch=16, codes=32):
    """Return features on well separated centers, one for each code."""
    generator = torch.Generator().manual_seed(2)
    centers = 5 * torch.randn(codes, 4, generator=generator)
    which = torch.arange(batch * 16) % codes
    rows = centers[which] + 0.1 * torch.randn(batch * 16, 4, generator=generator)
    return rows.view(batch, 4, 4, 4).permute(0, 3, 1, 2)


def usage(bottleneck, features):
    counts = bottleneck.count(look(bottleneck, features).mode())
    return (counts > 0).double().mean().item()


@kinds
def test_posteriors_start_at_a_perplexity_of_the_root_of_k(kind):
    torch.manual_seed(0)
    for scale in (1e-3, 1.0, 1e3):
        bottleneck = make(kind, 64, upkeep=Upkeep(revive_after=0))
        features = scale * torch.randn(8, 4, 8, 8)
        bottleneck.train()(features)
        entropy = categorical_entropy(look(bottleneck, features).logits).mean().item()
        assert entropy == pytest.approx(0.5 * math.log(64), rel=1e-3)


def test_a_variance_that_is_given_is_the_start():
    fixed = DistanceCodebook(64, 4, variance=3.0)
    fixed.train()(torch.randn(8, 4, 8, 8))
    assert fixed.log_variance.item() == pytest.approx(math.log(3.0))


@kinds
def test_the_start_from_data_uses_the_codes_once(kind):
    bottleneck = make(kind, 32, upkeep=Upkeep(kmeans=10, revive_after=0))
    features = blobs()
    before = usage(bottleneck, features)
    expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
    # Lloyd's algorithm from random points leaves some clusters shared: not all, but most.
    assert before < usage(bottleneck, features) and usage(bottleneck, features) > 0.6
    assert bottleneck.start.done
    weights = {k: v.clone() for k, v in bottleneck.state_dict().items()}
    loaded = make(kind, 32, upkeep=Upkeep(kmeans=10, revive_after=0))
    loaded.load_state_dict(weights)
    expectation(loaded, lambda z: z.flatten(2).sum(-1), 3 * features)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, weights[key]), "a loaded code book is not started again"


@kinds
@pytest.mark.parametrize("bad", ["equal", "far"])
def test_a_collapsed_code_book_is_in_use_after_one_revival(kind, bad):
    bottleneck = make(kind, 32, upkeep=Upkeep(kmeans=0, revive_after=5))
    tables = [bottleneck.codebook]
    if kind is ProjectedCodebook:
        tables = [bottleneck.projection.weight, bottleneck.projection.bias]
    with torch.no_grad():
        for table in tables:
            if bad == "equal":
                table.copy_(table[:1].clone().expand_as(table))
            else:
                table.mul_(0.01).add_(100)
    features = blobs()
    assert usage(bottleneck, features) < 0.5
    moved = []
    for _ in range(6):
        expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
        moved += bottleneck.take_moved()
    # Copies of different codes may cover one another; they have their next turn in five steps.
    expected = 0.9 if kind is DistanceCodebook else 0.75 if bad == "equal" else 0.5
    assert usage(bottleneck, features) > expected
    assert bottleneck.idle.steps.max() <= 1, "a revived code begins anew"
    for table, rows in moved:
        assert rows.shape == (32,) and rows.sum() > 15 and len(table) == 32
    assert {id(t) for t in tables} <= {id(t) for t, _ in moved}
    assert not bottleneck.take_moved()


@kinds
def test_weights_in_float64_are_started_and_revived_too(kind):
    bottleneck = make(kind, 12, upkeep=Upkeep(kmeans=3, revive_after=2)).double().train()
    features = blobs().double().requires_grad_()
    expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
    bottleneck.idle.steps[:4] = 2
    bottleneck.idle._next_look = 0
    out = expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
    (out.value + out.kl + out.loss).sum().backward()
    assert bottleneck.take_moved() and features.grad.isfinite().all()


@kinds
def test_a_revived_code_is_chosen_at_once(kind):
    bottleneck = make(kind, 12, upkeep=Upkeep(kmeans=0, revive_after=3))
    features = blobs()
    with torch.no_grad():
        bottleneck.codebook[2:] += 100
        if kind is ProjectedCodebook:
            bottleneck.projection.bias[2:] -= 1e4
    alive = bottleneck.count(look(bottleneck, features).mode()) > 0
    assert alive.sum() <= 2
    bottleneck.idle.steps.masked_fill_(~alive, 3)
    expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
    assert usage(bottleneck, features) > 0.75
    assert bottleneck.idle.steps.max() <= 1


@kinds
@pytest.mark.parametrize(("dead", "anew"), [(12, False), (13, True)])
def test_with_less_than_the_root_of_k_in_use_all_codes_are_started_anew(kind, dead, anew):
    features = blobs()
    bottleneck = make(kind, 16, upkeep=Upkeep(kmeans=3, revive_after=3))
    prior = learned_prior(bottleneck, torch.arange(16.0))
    with torch.no_grad():
        bottleneck.train()(features)
        bottleneck.idle.steps[:dead] = 3
        bottleneck.idle._next_look = 0
        bottleneck.train()(3 * features, prior)
    moved = bottleneck.take_moved()
    assert moved and all(rows.sum() == (16 if anew else dead) for _, rows in moved)
    assert torch.equal(prior.logits[dead:], torch.arange(16.0)[dead:]) != anew
    if anew:  # at the features of the batch, which are three times as far apart
        assert prior.logits.count_nonzero() == 0
        entropy = categorical_entropy(look(bottleneck, 3 * features).logits).mean().item()
        assert entropy == pytest.approx(0.5 * math.log(16), rel=1e-3)


@pytest.mark.parametrize("variance", [1e-4, 1e4])
def test_a_revival_sharpens_distances_to_a_perplexity_of_the_root_of_k_at_most(variance):
    features = blobs()
    bottleneck = make(DistanceCodebook, 16, upkeep=Upkeep(kmeans=3, revive_after=3))
    with torch.no_grad():
        bottleneck.train()(features)
        bottleneck.log_variance.fill_(math.log(variance))
        bottleneck.idle.steps[:4] = 3
        bottleneck.idle._next_look = 0
        bottleneck.train()(features)
    entropy = categorical_entropy(look(bottleneck, features).logits).mean().item()
    if variance > 1:
        assert entropy == pytest.approx(0.5 * math.log(16), rel=1e-3)
    else:
        assert bottleneck.log_variance.item() == pytest.approx(math.log(variance))


def test_a_revival_takes_the_variance_of_the_first_process_where_its_own_would_do(monkeypatch):
    bottleneck = make(DistanceCodebook, 16, upkeep=Upkeep(kmeans=3, revive_after=3))
    with torch.no_grad():
        bottleneck.train()(blobs())
        bottleneck.log_variance.fill_(math.log(1e-4))
        # As a broadcast does, it writes into what it is given.
        broadcast = "dvae.bottlenecks.upkeep.from_first_process"
        monkeypatch.setattr(broadcast, lambda variance: variance.fill_(1e-6))
        bottleneck._revive(torch.randn(64, 4), torch.arange(16) < 4)
    assert bottleneck.log_variance.item() == pytest.approx(math.log(1e-6))


def test_a_projected_code_is_revived_as_half_of_one_in_use():
    bottleneck = make(ProjectedCodebook, 6)
    features = blobs(codes=5)
    points = features.permute(0, 2, 3, 1).flatten(0, -2)
    dead = torch.tensor(5 * [False] + [True])
    with torch.no_grad():
        bottleneck.projection.bias[5] = -1e4
        before = {k: v.clone() for k, v in bottleneck.state_dict().items()}
        index = look(bottleneck, features).logits.flatten(0, -2).argmax(-1)
        bottleneck._revive(points, dead)
    after = bottleneck.state_dict()
    (parent,) = (before["codebook"] != after["codebook"]).any(1)[:5].nonzero().flatten().tolist()
    # On average the decoder sees what it saw.
    torch.testing.assert_close(
        (after["codebook"][5] + after["codebook"][parent]) / 2, before["codebook"][parent]
    )
    # The halves are as probable as the whole was at the mean of its cell, and part there.
    cell = points[index == parent]
    mean = cell.mean(0)
    logits = bottleneck._logits(mean)
    whole = before["projection.weight"][parent] @ mean + before["projection.bias"][parent]
    torch.testing.assert_close(logits[[5, parent]], whole.expand(2))
    ahead = (bottleneck._logits(cell) @ torch.eye(6)[[5, parent]].mT).diff(dim=1) > 0
    assert 0 < ahead.sum() < len(cell)
    others = [k for k in range(5) if k != parent]
    for key in ("codebook", "projection.weight", "projection.bias"):
        assert torch.equal(before[key][others], after[key][others])


def test_a_projected_code_that_is_drawn_at_its_places_is_in_use():
    bottleneck = make(ProjectedCodebook, 4, upkeep=Upkeep(kmeans=0, revive_after=2))
    features = torch.cat([torch.ones(32, 4, 2, 2), -torch.ones(32, 4, 2, 2)])
    with torch.no_grad():
        # 0 and 1 are ahead on either side of zero; 2 is close behind 1; 3 is behind everywhere.
        bottleneck.projection.weight.copy_(torch.tensor([2.0, -2.0, -2.0, 0.0]).unsqueeze(1))
        bottleneck.projection.bias.copy_(torch.tensor([0.0, 0.0, -0.5, -20.0]))
        before = bottleneck.codebook.clone()
        assert look(bottleneck, features).mode().unique().tolist() == [0, 1]
        for _ in range(3):
            expectation(bottleneck, lambda z: z.flatten(2).sum(-1), features)
    assert torch.equal(bottleneck.codebook[2], before[2])
    assert not torch.equal(bottleneck.codebook[3], before[3])


@kinds
def test_a_revived_code_has_the_prior_of_those_in_use(kind):
    bottleneck = make(kind, 12, upkeep=Upkeep(kmeans=0, revive_after=3))
    prior = learned_prior(bottleneck, torch.arange(12.0))
    dead = torch.arange(12) < 2
    bottleneck.idle.steps.masked_fill_(dead, 3)
    bottleneck(blobs(), prior)
    expected = torch.where(dead, torch.arange(2.0, 12.0).mean(), torch.arange(12.0))
    torch.testing.assert_close(prior.logits.detach(), expected)


def test_frozen_code_books_keep_still():
    for kind in KINDS:
        bottleneck = make(kind, 32, upkeep=Upkeep(kmeans=0, revive_after=1, frozen=True))
        before = bottleneck.codebook.clone()
        parameters = [p for p in bottleneck.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        features = blobs().requires_grad_()
        for _ in range(4):
            expectation(
                bottleneck, lambda z: z.flatten(2).sum(-1), features
            ).value.mean().backward()
            optimizer.step()
        assert torch.equal(bottleneck.codebook, before)
        assert features.grad.abs().sum() > 0


def test_idle_codes_are_counted_from_their_last_use():
    bottleneck = make(ProjectedCodebook, 4, upkeep=Upkeep(kmeans=0, revive_after=9))
    for counts in ([1, 0, 2, 0], [0, 0, 1, 1], [0, 0, 0, 1]):
        bottleneck.idle.add(torch.tensor(counts))
        bottleneck.idle.step()
    assert bottleneck.idle.steps.tolist() == [2, 3, 1, 0]


def test_evaluation_changes_nothing():
    for kind in KINDS:
        bottleneck = make(kind, 8, upkeep=Upkeep(kmeans=5, revive_after=1)).eval()
        before = {k: v.clone() for k, v in bottleneck.state_dict().items()}
        for _ in range(3):
            expectation(bottleneck, lambda z: z.flatten(2).sum(-1), blobs())
            bottleneck(blobs())
        assert all(torch.equal(v, before[k]) for k, v in bottleneck.state_dict().items())


def test_without_a_grid_there_are_no_samples():
    bottleneck = ProjectedCodebook(4, 2)
    assert bottleneck.num_states is None
    with pytest.raises(ValueError, match="does not know its grid"):
        uniform(bottleneck)


def test_a_uniform_prior_is_exact_over_many_positions():
    bottleneck = ProjectedCodebook(8192, 2, 2)
    prior = uniform(bottleneck, (32, 32))
    log_p = prior.log_prob(torch.zeros(1, 32, 32, dtype=torch.int64)).item()
    assert log_p == pytest.approx(-1024 * math.log(8192), rel=1e-6)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: ProjectedCodebook(1), "num_codes must be an integer >= 2; got 1"),
        (lambda: DistanceCodebook(4, 0), "code_dim must be an integer >= 1; got 0"),
        (lambda: ProjectedCodebook(4, 4, 0), "in_features must be an integer >= 1; got 0"),
        (lambda: DistanceCodebook(variance=0.0), "variance must be a number > 0; got 0.0"),
        (lambda: DistanceCodebook(commitment=-1.0), "commitment must be a number >= 0; got -1.0"),
        (lambda: Upkeep(kmeans=-1), "upkeep.kmeans must be >= 0; got -1"),
        (lambda: Upkeep(revive_after=-1), "upkeep.revive_after must be >= 0; got -1"),
    ],
)
def test_wrong_values_are_refused(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_only_pathwise_estimators_are_layers():
    with pytest.raises(TypeError, match="VIMCO gives a gradient only through expectation"):
        make(ProjectedCodebook, estimator=VIMCO()).train()(features_of()).draw()
    assert (
        make(ProjectedCodebook, estimator=ReinMax()).train()(features_of()).draw().z.requires_grad
    )


def test_k_means_of_float16_does_not_overflow():
    points = torch.full((20, 2), 1e4, dtype=torch.float16)
    assert torch.equal(kmeans(points, points[:2], 2), points[:2])


def test_a_code_book_of_distances_starts_in_float64_too():
    bottleneck = DistanceCodebook(num_codes=4, code_dim=2).double()
    code = bottleneck(torch.randn(3, 2, 2, 2, dtype=torch.float64)).draw().z
    assert code.dtype == torch.float64 and code.isfinite().all()


@pytest.mark.parametrize("offset", [0.0, 64.0, 4096.0])
def test_distances_of_features_far_from_0_keep_their_digits(offset):
    torch.manual_seed(0)
    bottleneck = DistanceCodebook(num_codes=7, code_dim=4, variance=0.5).eval()
    # Of so few digits that none is lost when the offset is added.
    features = (torch.randn(2, 4, 3, 3) * 256).round() / 256
    with torch.no_grad():
        bottleneck.codebook.mul_(256).round_().div_(256)
        found = [look(bottleneck, features).logits]
        bottleneck.codebook.add_(offset)
        found.append(look(bottleneck, features + offset).logits)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)
