"""Laws of product codes: enumeration, the exact gradient, one code book inside, revival."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from dvae.bottlenecks import ProductCodebook, ProjectedCodebook, Upkeep
from dvae.bottlenecks.grid import count_levels
from dvae.estimators import REBAR, RLOO, ExactEnumeration, GumbelSoftmax, Reinforce
from dvae.priors import CategoricalPrior
from dvae.scalars import annealable_scalars
from tests.estimators.catalogue import everything, name
from tests.laws import assert_chi_square, assert_mean
from tests.posteriors import PRIORS, expectation, kl, look, priced, spoken, uniform

ASLEEP = Upkeep(kmeans=0, revive_after=0)


def make(codes=3, parts=2, estimator=None, upkeep=ASLEEP, grid=(1, 2)):
    torch.manual_seed(0)
    bottleneck = ProductCodebook(codes, 2 * parts, 2 * parts, parts, estimator, upkeep)
    bottleneck.grid = grid
    return bottleneck


def features_of(batch=5, parts=2, height=1, width=2, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(batch, 2 * parts, height, width, generator=generator)


def log_q_of(bottleneck, features, states):
    every = states.unsqueeze(1).expand(-1, len(features), *states.shape[1:])
    return look(bottleneck, features).log_prob(every)


@pytest.mark.parametrize("learned", [False, True])
def test_kl_and_entropy_are_the_sums_over_all_codes(learned):
    bottleneck, features = make(), features_of()
    prior = spoken(CategoricalPrior(), bottleneck) if learned else uniform(bottleneck)
    states = bottleneck.states(0, bottleneck.num_states)
    assert states.shape == (3**4, 1, 2, 2)
    log_q, log_p = log_q_of(bottleneck, features, states), prior.log_prob(states)
    assert_close(log_q.exp().sum(0), torch.ones(5))
    assert log_p.exp().sum().item() == pytest.approx(1)
    expected = (log_q.exp() * (log_q - log_p.unsqueeze(1))).sum(0)
    assert_close(kl(bottleneck, features, prior), expected)
    assert_close(bottleneck(features).entropy(), -(log_q.exp() * log_q).sum(0))


@pytest.mark.parametrize("kind", PRIORS)
def test_every_prior_is_a_distribution_of_its_codes_and_draws_from_it(kind):
    bottleneck = make(codes=2)
    prior = spoken(PRIORS[kind](), bottleneck)
    states = bottleneck.states(0, 2**4)
    drawn = prior.sample(2000, torch.Generator().manual_seed(0))
    assert drawn.shape == (2000, 1, 2, 2) and drawn.max() == 1
    if kind == "masked":
        return  # bounds log p, and draws by rounds
    p = prior.log_prob(states).exp().detach()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    number = (drawn.flatten(1) * 2 ** torch.arange(4)).sum(1)
    assert_chi_square(torch.bincount(number, minlength=16), p)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_are_drawn_independently_each_from_its_own_channels(parts):
    bottleneck, features = make(parts=parts).eval(), features_of(parts=parts)
    logits = bottleneck(features).logits
    assert logits.shape == (5, 1, 2, parts, 3)
    for part in range(parts):
        moved = features.clone()
        moved[:, 2 * part : 2 * part + 2] += 1
        changed = (bottleneck(moved).logits != logits).flatten(3).unflatten(3, (parts, 3))
        assert [bool(c) for c in changed.any(-1).flatten(0, 2).any(0)] == [
            other == part for other in range(parts)
        ]


def test_it_is_code_books_side_by_side():
    bottleneck, features = make().eval(), features_of(height=3, width=4)
    books = []
    for part, own in enumerate(bottleneck.books):
        book = ProjectedCodebook(3, 2, 2, upkeep=ASLEEP, kernel="plain").eval()
        book.load_state_dict(own.state_dict(), strict=False)
        books.append((book, book(features[:, 2 * part : 2 * part + 2])))
    q = bottleneck(features)
    assert torch.equal(q.mode(), torch.stack([p.mode() for _, p in books], -1))
    index = q.sample(1, torch.Generator().manual_seed(0))[0]
    alone = [book.embed(index[..., part]) for part, (book, _) in enumerate(books)]
    assert torch.equal(bottleneck.embed(index), torch.cat(alone, 1))
    assert_close(q.entropy(), sum(p.entropy() for _, p in books))
    counts = [book.count(index[..., part]) for part, (book, _) in enumerate(books)]
    assert torch.equal(bottleneck.count(index), torch.stack(counts))
    assert torch.equal(count_levels(index, 2, 3), torch.stack(counts))
    assert bottleneck.vectors().shape == (2, 3, 2)


def test_a_code_is_worth_the_same_drawn_mixed_and_looked_up():
    bottleneck = make(estimator=GumbelSoftmax(hard=True)).train()
    with torch.autocast("cpu", torch.bfloat16):
        draw = bottleneck(features_of(50)).draw()
        assert torch.equal(draw.z, bottleneck.embed(draw.index))


def f_of(weights):
    return lambda z: (z.flatten(2) @ weights).tanh()


def exact_gradient(f, features):
    bottleneck = make(codes=2, estimator=ExactEnumeration())
    value = expectation(bottleneck, f, features).value
    states = bottleneck.states(0, 16)
    log_q = log_q_of(bottleneck, features, states)
    z = bottleneck.embed(states).unsqueeze(1).expand(-1, len(features), -1, -1, -1)
    counted = (log_q.exp() * f(z)).sum(0)
    assert_close(value, counted)
    inputs = [features, *bottleneck.parameters()]
    found = torch.autograd.grad(value.sum(), inputs)
    for one, other in zip(found, torch.autograd.grad(counted.sum(), inputs), strict=True):
        assert_close(one, other)
    return found[0]


@pytest.mark.parametrize("estimator", [Reinforce, RLOO, REBAR])
def test_unbiased_estimators_have_the_gradient_of_the_sum_over_all_codes(estimator):
    features = features_of(1).requires_grad_()
    f = f_of(torch.randn(8, generator=torch.Generator().manual_seed(3)))
    expected = exact_gradient(f, features)
    many = features.detach().expand(20_000, -1, -1, -1).clone().requires_grad_()
    value = expectation(make(codes=2, estimator=estimator()), f, many).value
    (found,) = torch.autograd.grad(value.sum(), many)
    assert_mean(found, expected[0])


@pytest.mark.parametrize("estimator", everything(4, 2), ids=name)
def test_every_estimator_reaches_encoder_code_books_and_decoder(estimator):
    bottleneck = make(codes=2, estimator=estimator).train()
    prior = priced(CategoricalPrior(), bottleneck)
    features = features_of(100).requires_grad_()
    decoder = torch.randn(8, requires_grad=True)
    out = expectation(bottleneck, f_of(decoder), features, prior=prior)
    books = [book.codebook for book in bottleneck.books]
    inputs = [features, decoder, prior.logits, *books]
    for gradient in torch.autograd.grad((out.value - out.kl).sum(), inputs):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_there_is_one_temperature_and_no_estimator_in_the_parts():
    bottleneck = make()
    assert list(annealable_scalars(bottleneck)) == ["estimator.tau"]
    assert not [key for key in bottleneck.state_dict() if "books" in key and "estimator" in key]


@pytest.mark.parametrize("kind", ["categorical", "MADE", "autoregressive", "masked"])
def test_a_dead_code_of_one_part_is_revived_there_alone_and_with_the_prior(kind):
    # With fewer codes than four left of a part it would start anew.
    bottleneck = make(codes=4, upkeep=Upkeep(kmeans=0, revive_after=2)).train()
    prior = spoken(PRIORS[kind](), bottleneck).train()
    features = features_of(64, height=4, width=4, scale=3.0)
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    books = [book.codebook.clone() for book in bottleneck.books]
    bottleneck.books[1].idle.steps[2] = 2
    with torch.no_grad():
        bottleneck(features, prior)
    assert torch.equal(bottleneck.books[0].codebook, books[0])
    assert not torch.equal(bottleneck.books[1].codebook[2], books[1][2])
    moved = bottleneck.take_moved()
    assert len(moved) > 3 or (kind == "MADE" and len(moved) == 3)
    names = {id(p): n for n, p in prior.named_parameters()}
    for table, rows in moved:
        if id(table) not in names:
            assert rows.tolist() == [False, False, True, False]
            continue
        old = before[names[id(table)]]
        changed = (table != old).view(*rows.shape, -1).any(-1)
        place = (1, 2) if changed.shape == (2, 4) else (2, 1)
        assert changed[place] and changed.sum() == 1 and torch.equal(changed, rows)
    assert not bottleneck.take_moved()


def test_all_codes_are_in_use_after_a_start_from_data():
    torch.manual_seed(0)
    bottleneck = ProductCodebook(16, 8, 8, 2, upkeep=Upkeep(kmeans=5)).train()
    q = bottleneck(torch.randn(64, 8, 4, 4))
    assert (bottleneck.count(q.sample(1)[0]) > 0).all()
    # Perplexities of the square root of K on average, so that none is chosen for sure.
    assert q.entropy().mean().item() / 32 == pytest.approx(math.log(16) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 4, 4, 2), "num_codes must be"),
        ((3, 5, 4, 2), "code_dim must be a multiple of parts, 2; got 5"),
        ((3, 4, 5, 2), "in_features must be a multiple of parts, 2; got 5"),
        ((3, 4, 4, 1), "ProductCodebook.parts must be"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ProductCodebook(*sizes)


def test_states_are_all_codes():
    found = make(codes=2).states(0, 16).flatten(1).tolist()
    assert sorted(map(tuple, found)) == list(itertools.product(range(2), repeat=4))
