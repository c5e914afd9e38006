"""Laws of residual codes: enumeration, the exact gradient, one level, bounds, revival."""

import copy
import math

import pytest
import torch
from torch.testing import assert_close

from dvae.bottlenecks import DistanceCodebook, ResidualCodebook, Upkeep
from dvae.bottlenecks.grid import count_levels
from dvae.estimators import (
    RLOO,
    VIMCO,
    ExactEnumeration,
    GumbelSoftmax,
    MeanField,
    PathwiseEstimator,
    StraightThrough,
)
from dvae.functional import iwae_bound
from dvae.models import CodebookVAE
from dvae.models.evaluation import exact_log_px
from dvae.networks import ResNet
from dvae.priors import CategoricalPrior
from dvae.scalars import annealable_scalars
from tests.estimators.catalogue import everything, name
from tests.laws import assert_chi_square, assert_mean
from tests.posteriors import PRIORS, bounds_of, expectation, look, priced, spoken, uniform

ASLEEP = Upkeep(kmeans=0, revive_after=0)


def make(codes=3, depth=2, estimator=None, upkeep=ASLEEP, grid=(1, 2)):
    torch.manual_seed(0)
    bottleneck = ResidualCodebook(codes, 3, depth, estimator, upkeep)
    bottleneck.grid = grid
    return bottleneck


def features_of(batch=5, height=1, width=2, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(batch, 3, height, width, generator=generator)


def every_code(bottleneck, batch):
    states = bottleneck.states(0, bottleneck.num_states)
    return states.unsqueeze(1).expand(-1, batch, *states.shape[1:])


# The distribution


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_log_q_sums_to_one_over_all_codes(depth):
    bottleneck, features = make(depth=depth, grid=(1, 1)), features_of(width=1)
    log_q = look(bottleneck, features).log_prob(every_code(bottleneck, 5))
    assert log_q.shape == (3**depth, 5)
    assert_close(log_q.exp().sum(0), torch.ones(5))


def test_draws_have_the_probabilities_that_log_q_says():
    bottleneck, features = make(grid=(1, 1)), features_of(1, width=1)
    q = look(bottleneck, features)
    index = q.sample(4000, torch.Generator().manual_seed(0))
    number = (index.flatten(1) * 3 ** torch.arange(2)).sum(1)
    p = q.log_prob(every_code(bottleneck, 1)).exp().squeeze(1).detach()
    assert_chi_square(torch.bincount(number, minlength=9), p)


def test_a_level_depends_on_the_draws_before_it_and_on_no_other_position():
    bottleneck, features = make(depth=3).eval(), features_of(1)
    log_q = look(bottleneck, features).log_prob
    one = torch.zeros(1, 1, 1, 2, 3, dtype=torch.long)
    last = torch.eye(3, dtype=torch.long)[:2].flip(-1)  # of the first position: level 2, level 1
    moved = [one.clone() for _ in last]
    for index, change in zip(moved, last, strict=True):
        index[..., 0, :] += change
    both = [index.clone() for index in moved]
    for index in both:
        index[..., 1, 0] = 1
    other = one.clone()
    other[..., 1, 0] = 1
    for index, beside in zip(moved, both, strict=True):
        assert_close(log_q(beside) - log_q(index), log_q(other) - log_q(one))


def test_mode_takes_the_nearest_of_what_is_left_and_logits_are_those_of_its_path():
    bottleneck, features = make(8, 3).eval(), features_of(20)
    q, rows = bottleneck(features), features.movedim(1, -1)
    for level, book in enumerate(bottleneck.books):
        nearest = torch.cdist(rows.flatten(0, -2), book.codebook).argmin(-1).view(20, 1, 2)
        assert torch.equal(q.mode()[..., level], nearest)
        rows = rows - book.codebook[nearest]
    assert_close(features - bottleneck.embed(q.mode()), rows.movedim(-1, 1))
    chosen = q.logits.log_softmax(-1).gather(-1, q.mode().unsqueeze(-1))
    assert_close(chosen.flatten(1).sum(1), q.log_prob(q.mode()[None])[0])


def test_draws_of_an_image_do_not_depend_on_its_batch():
    bottleneck, features = make(depth=3).eval(), features_of(6)
    whole = bottleneck(features).sample(4, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    parts = [bottleneck(x).sample(4, generator) for x in features.split([1, 2, 3])]
    assert torch.equal(whole, torch.cat(parts, 1))


@pytest.mark.parametrize("estimator", everything(2, 3), ids=name)
def test_without_a_gradient_a_hard_code_is_that_of_the_exact_draw_of_its_noise(estimator):
    bottleneck, features = make(depth=3, estimator=estimator).eval(), features_of(6)
    q, f = bottleneck(features), lambda z, code: z.flatten(2).sum(-1)
    with torch.no_grad():
        whole, generator = [torch.Generator().manual_seed(0) for _ in range(2)]
        value = q.expectation(f, whole)
        parts = [bottleneck(x).expectation(f, generator) for x in features.split([1, 2, 3])]
        assert_close(value, torch.cat(parts))
        exact = f(bottleneck.embed(q.sample(1, torch.Generator().manual_seed(0))), None)[0]
        score = not isinstance(estimator, (PathwiseEstimator, ExactEnumeration))
        if score or isinstance(estimator, StraightThrough) or getattr(estimator, "hard", False):
            assert_close(value, exact)


def test_a_code_chosen_by_its_logits_has_the_probability_that_they_say():
    q, generator = make(depth=3).eval()(features_of(6)), torch.Generator().manual_seed(0)
    log_q = []

    def pick(logits):
        index = torch.randint(3, logits.shape[:-1], generator=generator)
        log_q.append(logits.log_softmax(-1).gather(-1, index.unsqueeze(-1)).flatten(1).sum(1))
        return index

    index = q.chosen(pick)
    assert index.shape == (6, 1, 2, 3) and len(log_q) == 3
    assert_close(sum(log_q), q.log_prob(index[None])[0])


# One level is a code book


@pytest.mark.parametrize("estimator", everything(2, 2), ids=name)
def test_one_level_is_a_distance_code_book_to_the_bit(estimator):
    residual = make(2, 1, copy.deepcopy(estimator))  # some remember a baseline
    book = DistanceCodebook(2, 3, estimator, commitment=0.0, upkeep=ASLEEP)
    book.grid = residual.grid
    book.load_state_dict(residual.books[0].state_dict(), strict=False)
    weights = torch.randn(6, generator=torch.Generator().manual_seed(3))

    def found(bottleneck, own):
        torch.manual_seed(4)
        features = features_of().requires_grad_()
        q, f = bottleneck(features), lambda z, code: (z.flatten(2) @ weights).tanh()
        terms = [q.expectation(f), q.entropy(), q.kl(uniform(bottleneck))]
        inputs = [features, own.codebook, own.log_variance]
        gradients = [torch.autograd.grad(x.sum(), inputs, retain_graph=True) for x in terms]
        terms.append(q.copies(2).expectation(f))
        if isinstance(estimator, PathwiseEstimator):
            terms += [q.bound(f, 3), q.draw().z]
        index = q.sample(3)
        terms += [q.log_prob(index), q.logits, bottleneck.embed(index)]
        return [*terms, index, q.mode(), *sum(gradients, ())]

    ours, theirs = found(residual, residual.books[0]), found(book, book)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.flatten(), other.flatten())


# Expectations, entropy and KL


def f_of(weights):
    return lambda z: (z.flatten(2) @ weights).tanh()


def counted(bottleneck, features, prior, f):
    """Sum over all codes: the expectation of f, and the KL."""
    states = every_code(bottleneck, len(features))
    log_q = look(bottleneck, features).log_prob(states)
    log_p = prior.log_prob(states)
    q = log_q.exp()
    return (q * f(bottleneck.embed(states))).sum(0), (q * (log_q - log_p)).sum(0)


@pytest.mark.parametrize("kind", ["categorical", "MADE", "autoregressive"])
def test_enumeration_inside_enumeration_is_the_sum_over_all_codes(kind):
    bottleneck, features = make(estimator=ExactEnumeration()), features_of(2).requires_grad_()
    prior = spoken(PRIORS[kind](), bottleneck)
    f = f_of(torch.randn(6, generator=torch.Generator().manual_seed(3)))
    q = look(bottleneck, features)
    if kind == "categorical":
        value, kl = q.expectation(lambda z, code: f(z)), prior.closed_kl(q)
    else:
        value = q.expectation(lambda z, code: f(z))
        kl = prior.closed_kl(q) - q.expectation(lambda z, code: prior.log_prob(code))
    inputs = [features, *bottleneck.parameters()]
    for one, other in zip((value, kl), counted(bottleneck, features, prior, f), strict=True):
        assert_close(one, other)
        grads = [torch.autograd.grad(x.sum(), inputs, retain_graph=True) for x in (one, other)]
        for ours, theirs in zip(*grads, strict=True):
            assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_entropy_and_kl_without_a_gradient_are_unbiased_and_of_the_last_exact_draws():
    bottleneck, features = make(depth=3, grid=(1, 1)), features_of(3, width=1)
    prior = spoken(CategoricalPrior(), bottleneck)
    with torch.no_grad():
        _, kl = counted(bottleneck, features, prior, lambda z: z.flatten(2).sum(-1))
        states = every_code(bottleneck, 3)
        log_q = look(bottleneck, features).log_prob(states)
        entropy = -(log_q.exp() * log_q).sum(0)
        many = look(bottleneck, features.repeat(4000, 1, 1, 1))
        torch.manual_seed(0)
        assert_mean(many.kl(prior).view(4000, 3), kl)
        assert_mean(many.entropy().view(4000, 3), entropy)
        q = look(bottleneck, features)
        q.sample(5, torch.Generator().manual_seed(0))
        before = torch.random.get_rng_state()
        first = q.kl(prior)
        assert torch.equal(q.kl(prior), first)
        assert torch.equal(torch.random.get_rng_state(), before)
        q.sample(5, torch.Generator().manual_seed(1))
        assert not torch.equal(q.kl(prior), first)


UNBIASED = [e for e in everything(2, 2) if e.about.bias.startswith(("unbiased", "exact;"))]
UNBIASED = [e for e in UNBIASED if "exact for" not in e.about.bias]


@pytest.mark.parametrize("estimator", UNBIASED, ids=name)
def test_unbiased_estimators_have_the_gradient_of_the_sum_over_all_codes(estimator):
    # The KL's too: its gradient goes through the draws of the levels before.
    bottleneck, features = make(2, 2, estimator), features_of(1).requires_grad_()
    prior = spoken(CategoricalPrior(), bottleneck)
    f = f_of(0.3 * torch.randn(6, generator=torch.Generator().manual_seed(3)))
    expected = [
        torch.autograd.grad(x.sum(), features, retain_graph=True)[0][0]
        for x in counted(bottleneck, features, prior, f)
    ]
    torch.manual_seed(5)
    many = features.detach().expand(20_000, -1, -1, -1).clone().requires_grad_()
    q = look(bottleneck, many)
    for value, exact in zip((q.expectation(lambda z, _: f(z)), q.kl(prior)), expected, strict=True):
        (found,) = torch.autograd.grad(value.sum(), many)
        assert_mean(found, exact)


@pytest.mark.parametrize("estimator", everything(2, 2), ids=name)
def test_every_estimator_reaches_encoder_code_books_and_decoder(estimator):
    bottleneck = make(2, 2, estimator).train()
    prior = priced(CategoricalPrior(), bottleneck)
    features = features_of(100).requires_grad_()
    decoder = torch.randn(6, requires_grad=True)
    out = expectation(bottleneck, f_of(decoder), features, prior=prior)
    books = [book.codebook for book in bottleneck.books]
    widths = [book.log_variance for book in bottleneck.books]
    inputs = [features, decoder, prior.logits, *books, *widths]
    for gradient in torch.autograd.grad((out.value - out.kl).sum(), inputs):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("estimator", [MeanField(), GumbelSoftmax(0.8)], ids=name)
def test_relaxed_codes_have_the_gradient_of_what_they_evaluate_through_all_levels(estimator):
    bottleneck = make(depth=3, estimator=estimator, grid=(1, 1)).double().eval()
    prior = spoken(CategoricalPrior(), bottleneck).double()

    def value(features, *weights):
        torch.manual_seed(0)  # the same noise at each point
        q = bottleneck(features)
        total = q.expectation(lambda z, _: z.flatten(2).square().sum(-1).tanh())
        return total - q.kl(prior) + q.bound(lambda z, _: z.flatten(2).square().sum(-1), 2)

    features = features_of(2, width=1).double().requires_grad_()
    assert torch.autograd.gradcheck(value, (features, *bottleneck.parameters()))


@pytest.mark.parametrize("estimator", [RLOO(), VIMCO(), ExactEnumeration()], ids=name)
def test_the_bound_of_several_draws_is_refused_where_it_has_no_gradient(estimator):
    q = make(estimator=estimator)(features_of())
    with pytest.raises(ValueError, match="cannot train the bound of several draws") as error:
        q.bound(lambda z, code: z.flatten(2).sum(-1), 2)
    assert "\n" not in str(error.value)


def test_the_bound_weighs_whole_codes():
    bottleneck, features = make(depth=3, estimator=StraightThrough()).eval(), features_of()
    prior, seen = spoken(CategoricalPrior(), bottleneck), []

    def joint(z, code):
        seen.append(code.argmax(-1))
        return f_of(torch.ones(6))(z) + prior.log_prob(code)

    q = bottleneck(features)
    found = q.bound(joint, 4)
    (index,) = seen
    assert index.shape == (4, 5, 1, 2, 3)
    z = bottleneck.embed(index)
    expected = f_of(torch.ones(6))(z) + prior.log_prob(index) - q.log_prob(index)
    assert_close(found, iwae_bound(expected))


@pytest.mark.parametrize("kind", ["categorical", "MADE"])
def test_elbo_below_iwae_below_the_exact_likelihood(kind):
    torch.manual_seed(0)
    network = ResNet((1, 4, 4), width=8, halvings=1, blocks=1)
    model = CodebookVAE(network, ResidualCodebook(3, 3, 2, upkeep=ASLEEP), prior=PRIORS[kind]())
    assert model.bottleneck.num_states == 3**8
    image = torch.rand(40, 1, 4, 4)
    with torch.no_grad():
        model.eval()
        features = 4 * model.encoder(image)
        few, many = (bounds_of(model, image, features, n) for n in (2, 50))
        exact = exact_log_px(image, model, 1024)
    error = (few.elbo - few.iwae).std() / math.sqrt(40)
    assert many.elbo.mean() < few.iwae.mean() < many.iwae.mean() < exact.mean() + 1e-3
    assert few.elbo.mean() < few.iwae.mean() + 4 * error


# Codes and code books


def test_vectors_are_added_and_codes_counted_level_by_level():
    bottleneck, features = make(depth=3).eval(), features_of(height=3, width=4)
    index = bottleneck(features).sample(1, torch.Generator().manual_seed(0))[0]
    alone = [book.embed(index[..., level]) for level, book in enumerate(bottleneck.books)]
    assert_close(bottleneck.embed(index), sum(alone))
    counts = [book.count(index[..., level]) for level, book in enumerate(bottleneck.books)]
    assert torch.equal(bottleneck.count(index), torch.stack(counts))
    assert torch.equal(count_levels(index, 3, 3), torch.stack(counts))
    assert bottleneck.vectors().shape == (3, 3, 3) and bottleneck.index_shape == (1, 2, 3)


def test_a_code_is_worth_the_same_drawn_mixed_and_looked_up():
    bottleneck = make(depth=3, estimator=GumbelSoftmax(hard=True)).train()
    with torch.autocast("cpu", torch.bfloat16):
        draw = bottleneck(features_of(50)).draw()
        assert torch.equal(draw.z, bottleneck.embed(draw.index))


def test_there_is_one_temperature_and_no_estimator_in_the_levels():
    bottleneck = make()
    assert list(annealable_scalars(bottleneck)) == ["estimator.tau"]
    assert not [key for key in bottleneck.state_dict() if "books" in key and "estimator" in key]


@pytest.mark.parametrize("kind", PRIORS)
def test_a_dead_code_of_one_level_is_revived_there_alone_and_with_the_prior(kind):
    bottleneck = make(codes=4, upkeep=Upkeep(kmeans=0, revive_after=2)).train()
    prior = spoken(PRIORS[kind](), bottleneck).train()
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    books = [book.codebook.clone() for book in bottleneck.books]
    bottleneck.books[1].idle.steps[2] = 2
    bottleneck(features_of(64, height=4, width=4, scale=3.0), prior)
    assert torch.equal(bottleneck.books[0].codebook, books[0])
    changed = (bottleneck.books[1].codebook != books[1]).any(-1)
    assert changed.tolist() == [False, False, True, False]
    (book, rows), *tables = bottleneck.take_moved()
    assert book is bottleneck.books[1].codebook and torch.equal(rows, changed)
    same = all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    assert same == (not tables) == (kind == "MADE")  # which has no table of codes
    assert not bottleneck.take_moved()


def test_levels_start_from_what_draws_leave_and_all_codes_are_in_use():
    torch.manual_seed(0)
    bottleneck = ResidualCodebook(16, 8, 2, upkeep=Upkeep(kmeans=5)).train()
    features = 5 + torch.randn(64, 8, 4, 4)
    q = bottleneck(features)
    index = q.sample(1)[0]
    assert (bottleneck.count(index) > 0).all()
    # Perplexities of the square root of K on average, so that none is chosen for sure.
    assert q.entropy().mean().item() / 32 == pytest.approx(math.log(16) / 2, rel=0.15)
    first, second = (book.codebook.detach().mean() for book in bottleneck.books)
    assert first == pytest.approx(5, abs=0.5) and second == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 4, 2), "num_codes must be"),
        ((3, 0, 2), "code_dim must be"),
        ((3, 4, 0), "ResidualCodebook.depth must be an integer >= 1; got 0"),
    ],
)
def test_sizes_outside_their_range_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ResidualCodebook(*sizes)


def test_a_batch_of_no_images_has_no_codes():
    q = make(estimator=RLOO())(features_of(0).requires_grad_())
    assert q.sample(2).shape == (2, 0, 1, 2, 2) and q.mode().shape == (0, 1, 2, 2)
    f = f_of(torch.ones(6))
    assert q.expectation(lambda z, code: f(z)).shape == q.entropy().shape == (0,)
