"""Laws of the transformer as a prior, and of what every sequential prior does in training."""

import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch

from dvae.estimators import ExactEnumeration
from dvae.models.evaluation import exact_log_px
from dvae.models.objectives import elbo_terms
from dvae.priors import PRIORS, AutoregressivePrior, MADEPrior, Sampling
from dvae.priors.sequential import SequentialPrior
from tests.estimators.catalogue import everything, name
from tests.laws import assert_chi_square, assert_mean, one_hot
from tests.posteriors import bounds_of
from tests.toy import toy_model

# Latents with categories of their own, a grid, and a grid of several integers a position.
CODES = {"latents": ((3,), (3, 3)), "grid": ((2, 2), (3,)), "residual": ((1, 2, 2), (2, 3))}
EVERY = pytest.mark.parametrize("code", CODES)
GRID = ((2, 2), (3,))


def perceptron():
    return MADEPrior(width=5)


def transformer(**kwargs):
    return AutoregressivePrior(**({"width": 16, "depth": 2, "heads": 2} | kwargs))


def with_classes():
    return transformer(num_classes=2, label_dropout=0.5)


def narrow():  # without rotary embeddings
    return transformer(width=4)


TRANSFORMERS = {"transformer": transformer, "narrow": narrow, "with classes": with_classes}
KINDS = TRANSFORMERS | {"MADE": perceptron}
MINE = pytest.mark.parametrize("kind", TRANSFORMERS)
ALL = pytest.mark.parametrize("kind", KINDS)


def outermost(prior):
    """Return the parameters in which the logits are linear."""
    if hasattr(prior, "net"):
        return [prior.net.head, prior.net.bias]
    return [p for layer in (prior.leave, prior.skip) for p in layer.parameters()]


@torch.no_grad()
def built(prior, code=GRID, spread=1.0):
    """Build a prior with random weights, whose logits have a given standard deviation."""
    torch.manual_seed(0)
    prior.build(*code)
    for parameter in prior.parameters():
        parameter.normal_()
    scale = spread / prior.logits(states(prior).flatten(1)).std()
    for parameter in outermost(prior):
        parameter.mul_(scale)
    return prior.eval()


def states(prior):
    tuples = itertools.product(range(prior.num_codes), repeat=math.prod(prior.index_shape))
    return torch.tensor(list(tuples)).view(-1, *prior.index_shape)


def counts(prior, drawn):
    powers = prior.num_codes ** torch.arange(prior.positions).flip(0)
    return (drawn.flatten(1) @ powers).bincount(minlength=prior.num_codes**prior.positions)


def labels(prior, count, label=1):
    return torch.full((count,), label) if prior.num_classes else None


@MINE
@EVERY
def test_p_sums_to_one_and_one_hot_codes_have_the_probability_of_their_integers(kind, code):
    prior = built(KINDS[kind](), CODES[code])
    index = states(prior)
    log_p = prior.log_prob(index)
    assert log_p.std() > 0.5  # it says something
    assert log_p.exp().sum().item() == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(prior.log_prob(one_hot(index, 3, torch.float32)), log_p)
    leading = prior.log_prob(index.expand(2, 4, *index.shape))
    torch.testing.assert_close(leading, log_p.expand(2, 4, -1))
    assert prior.log_prob(index[:0]).shape == (0,)
    if prior.num_classes:
        told = prior.log_prob(index, labels(prior, len(index)))
        assert told.exp().sum().item() == pytest.approx(1, rel=1e-5)
        assert (told - log_p).abs().max() > 0.1


@MINE
@EVERY
def test_a_prior_starts_uniform(kind, code):
    prior = KINDS[kind]()
    prior.build(*CODES[code])
    expected = torch.full((4,), -prior.positions * math.log(3))
    torch.testing.assert_close(prior.log_prob(states(prior)[5:9]), expected)


@MINE
@EVERY
def test_logits_do_not_change_with_what_comes_at_or_after_them_and_do_with_all_before(kind, code):
    prior = built(KINDS[kind](), CODES[code])
    x = torch.rand(2, prior.positions, 3, requires_grad=True)
    logits = prior.logits(x, labels(prior, 2))
    for t in range(prior.positions):
        (gradient,) = torch.autograd.grad(logits[:, t].square().sum(), x, retain_graph=True)
        seen = gradient.abs().amax((0, 2)) > 0
        assert seen.tolist() == [s < t for s in range(prior.positions)]


@MINE
@EVERY
def test_samples_have_their_frequencies_and_obey_their_seed(kind, code):
    prior = built(KINDS[kind](), CODES[code], 0.5)
    label = labels(prior, 20_000)
    drawn = prior.sample(20_000, torch.Generator().manual_seed(1), label=label)
    index = states(prior)
    p = prior.log_prob(index, labels(prior, len(index))).exp().detach()
    assert_chi_square(counts(prior, drawn), p)
    again = prior.sample(20_000, torch.Generator().manual_seed(1), label=label)
    assert torch.equal(drawn, again)


@EVERY
@pytest.mark.parametrize("label", [None, 0, 1])
def test_logits_of_a_step_with_what_is_kept_are_those_without(code, label):
    prior = built(with_classes(), CODES[code])
    index = prior.sample(6, torch.Generator().manual_seed(2)).flatten(1)
    label = None if label is None else torch.full((6,), label)
    step, logits = prior.steps(label), prior.logits(index, label)
    for t in range(prior.positions):
        torch.testing.assert_close(step(index, t), logits[:, t])


@MINE
def test_the_most_probable_integers_alone_can_be_drawn(kind):
    prior = built(KINDS[kind]())
    greedy = prior.sample(50, how=Sampling(top_k=1))
    assert (greedy == greedy[0]).all()
    index = greedy[:1].flatten(1)
    assert torch.equal(prior.logits(index).argmax(-1), index)
    assert torch.equal(prior.sample(2, how=Sampling(top_p=1e-6)), greedy[:2])


HOW = [Sampling(0.5), Sampling(guidance=1.5), Sampling(1.5, top_k=2, guidance=0.5)]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_samples_that_are_sharpened_cut_or_guided_have_the_frequencies_they_should(how):
    prior = built(with_classes(), ((2,), (2, 3)), 0.5)
    label = torch.ones(20_000, dtype=torch.int64)
    drawn = prior.sample(20_000, torch.Generator().manual_seed(1), how, label)
    index, w = states(prior), how.guidance
    logits = (1 + w) * prior.logits(index, label[: len(index)]) - w * prior.logits(index)
    p = how(logits).softmax(-1).gather(-1, index.unsqueeze(-1)).prod(-2).squeeze(-1).detach()
    assert p.sum().item() == pytest.approx(1, rel=1e-5)
    assert_chi_square(counts(prior, drawn), p)


@ALL
def test_a_code_is_completed_from_its_prefix(kind):
    prior = built(KINDS[kind](), GRID, 0.5)
    index = torch.tensor([[0, 2], [1, 0]]).expand(20_000, 2, 2)
    mask = torch.tensor([[False, True], [True, True]])
    label = labels(prior, 20_000)
    drawn = prior.complete(index, mask, torch.Generator().manual_seed(1), label=label)
    assert (drawn[:, 0, 0] == 0).all()
    every = states(prior)
    p = prior.log_prob(every, labels(prior, len(every))).exp().detach()
    assert_chi_square(counts(prior, drawn), torch.where(every[:, 0, 0] == 0, p, 0))
    # Each image its own prefix; what is not drawn stays.
    masks = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]).bool().view(3, 2, 2)
    found = prior.complete(index[:3], masks)
    assert torch.equal(found[:2].flatten(1)[:, :3], index[:2].flatten(1)[:, :3])
    assert torch.equal(found[0], index[0])
    with pytest.raises(ValueError, match="True from there to the end; MaskedPrior takes any"):
        prior.complete(index[:1], torch.tensor([[True, False], [True, True]]))


def test_labels_left_out_in_training_leave_the_law_without_a_label():
    prior = built(with_classes())
    index = torch.zeros(4000, 2, 2, dtype=torch.int64)
    label = torch.ones(4000, dtype=torch.int64)
    without, told = prior.log_prob(index[:1]).item(), prior.log_prob(index[:1], label[:1]).item()
    with torch.no_grad():
        assert prior.given(label).log_prob(index).allclose(torch.tensor(told))
        prior.train()
        found = prior.given(label).log_prob(index)
    dropped = found.isclose(torch.tensor(without))
    assert (dropped | found.isclose(torch.tensor(told))).all()
    assert_mean(dropped.double(), 0.5)
    # The law without a label is learned from images whose label is left out, and from no other.
    prior.label_dropout = 0.0
    prior.given(label[:8]).log_prob(index[:8]).sum().backward()
    assert (prior.net.classes.grad.abs().sum(1) > 0).tolist() == [False, True, False]


def test_a_batch_with_labels_is_one_function_in_each_step_and_has_copies():
    prior = built(with_classes()).train()
    label = torch.tensor([0, 1, 1])
    index = torch.randint(3, (5, 3, 2, 2))
    given = prior.given(label)
    first = given.log_prob(index)
    assert torch.equal(first, given.log_prob(index))
    copies = given.log_prob(index[:1].repeat(1, 4, 1, 1))
    torch.testing.assert_close(copies, first[:1].repeat(1, 4))
    torch.testing.assert_close(given.open_kl(index), -first.mean(0))
    assert prior.given(None) is prior
    assert (unclassed := built(transformer())).given(label) is unclassed
    assert given.sample(3).shape == (3, 2, 2)


@MINE
def test_logits_are_exact_whatever_autocast_says(kind):
    prior = built(KINDS[kind]())
    code = one_hot(states(prior), 3, torch.float32).flatten(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = prior.logits(code)
        log_p = prior.log_prob(states(prior))
    assert logits.dtype == log_p.dtype == torch.float32
    assert log_p.exp().sum().item() == pytest.approx(1, rel=0.1)
    assert prior.double().log_prob(states(prior)).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transformer(num_classes=-1), "AutoregressivePrior.num_classes must be an int"),
        (lambda: transformer(label_dropout=1.5), r"label_dropout must be in \[0, 1\]; got 1.5"),
        (
            lambda: AutoregressivePrior(width=10, heads=4),
            "width must be a multiple of heads, 4",
        ),
        (lambda: AutoregressivePrior(depth=0), "AutoregressivePrior.depth must be an integer >= 1"),
        (lambda: MADEPrior(width=0), "MADEPrior.width must be an integer >= 1; got 0"),
        (lambda: built(with_classes()).sample(1, label=torch.tensor([2])), r"in \[0, 2\); got 2"),
        (lambda: built(transformer()).sample(1, label=torch.tensor([0])), "knows no classes"),
        (lambda: built(perceptron()).log_prob(torch.zeros(1, 2, 2).long(), torch.ones(1)), "no cl"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_revived_codes_are_as_probable_as_the_others():
    prior = built(transformer())
    with torch.no_grad():
        prior.net.bias[1] = -50.0
    index = torch.zeros(1, 2, 2, dtype=torch.int64)
    dead = torch.tensor([False, True, False])
    assert prior.log_prob(index + 1) < -100
    assert prior.revive(dead, False) == [prior.net.head, prior.net.bias]
    logits = prior.logits(index.flatten(1))
    torch.testing.assert_close(logits[..., 1], (logits[..., 0] + logits[..., 2]) / 2)
    assert prior.requires_grad_(False).revive(dead, False) == []


def test_what_is_built_is_found_copied_and_loaded():
    assert {"AutoregressivePrior", "MADEPrior"} <= set(PRIORS)
    assert all(issubclass(PRIORS[name], SequentialPrior) for name in ("MADEPrior",))
    prior = built(with_classes())
    again = with_classes()
    again.build(*GRID)
    again.load_state_dict(prior.state_dict())
    index = states(prior)
    assert torch.equal(again.eval().log_prob(index), prior.log_prob(index))
    assert torch.equal(copy.deepcopy(prior).log_prob(index), prior.log_prob(index))


def test_the_library_of_the_layers_is_imported_when_they_are_made():
    code = "import sys, dvae, dvae.priors; assert 'x_transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Gradients


@ALL
def test_gradients_go_through_what_is_conditioned_on_and_what_is_predicted(kind):
    prior = built(KINDS[kind]()).double()
    code = torch.rand(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    # x-transformers takes its softmax in float32.
    assert torch.autograd.gradcheck(prior.log_prob, code, eps=1e-3, atol=1e-3)


def test_elbo_below_iwae_below_the_exact_likelihood_with_a_learned_prior():
    model = toy_model(prior=transformer()).eval()
    prior = model.prior
    with torch.no_grad():
        for parameter in outermost(prior):
            parameter.normal_(std=0.3)
        image = torch.rand(100, 1, 6, 6)
        features = model.encoder(image) * 3
        generator = torch.Generator().manual_seed(0)
        one, few, many = (bounds_of(model, image, features, m, 500, generator) for m in (1, 5, 500))
        exact = exact_log_px(image, model, 100)
        q = model.bottleneck(features)
        index = states(prior)
        log_q = q.log_prob(index.unsqueeze(1).expand(-1, 100, -1))
        params = model.decoder(model.bottleneck.embed(index))
        joint = model.likelihood.pairwise_log_prob(params, image) + prior.log_prob(index)[:, None]
        elbo = (log_q.exp() * (joint - log_q)).sum(0)
    torch.testing.assert_close(exact, joint.logsumexp(0))
    assert_mean(many.elbo - elbo, 0)
    assert_mean(one.iwae - elbo, 0)
    assert elbo.mean() < few.iwae.mean() < many.iwae.mean() < exact.mean() + 1e-2
    assert many.iwae.mean() == pytest.approx(exact.mean().item(), abs=0.05)


def problem(kind):
    """Return a prior of 2 latents of 3 codes, logits, and a likelihood that is not polynomial."""
    prior = built(KINDS[kind](), ((2,), (2, 3)), 0.6).double()
    model = toy_model(ExactEnumeration(), latents=2).double()
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    logits = torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    return prior, model.bottleneck, logits, lambda z: (z.flatten(2) @ weight).tanh().sum(-1)


def gradients(kind, estimator, batch, seed=0, beta=0.7):
    """Estimate the bound's gradient with respect to the logits and the prior's weights."""
    prior, bottleneck, logits, log_px = problem(kind)
    torch.manual_seed(100 + seed)
    bottleneck.estimator = estimator
    leaf = logits.repeat(batch, 1, 1).requires_grad_()
    label = labels(prior, batch)
    terms = elbo_terms(log_px, bottleneck(leaf.flatten(1)), prior.given(label), beta)
    value = terms.value - beta * terms.closed_kl
    last = outermost(prior)[0]
    return value.detach(), *torch.autograd.grad(value.sum(), [leaf, last])


def exact(kind, beta=0.7):
    prior, _, logits, log_px = problem(kind)
    leaf = logits.requires_grad_()
    index = states(prior)
    log_q = leaf.log_softmax(-1)[0].expand(9, 2, 3).gather(-1, index.unsqueeze(-1)).sum((1, 2))
    log_p = prior.log_prob(index, labels(prior, 9))
    f = log_px(one_hot(index, 3).unsqueeze(0))[0] + beta * (log_p - log_q)
    value = (log_q.exp() * f).sum()
    last = outermost(prior)[0]
    return value.detach(), *torch.autograd.grad(value, [leaf, last])


@ALL
def test_the_sum_over_all_codes_has_the_gradient_of_the_bound(kind):
    for found, expected in zip(gradients(kind, ExactEnumeration(), 1), exact(kind), strict=True):
        torch.testing.assert_close(found.view_as(expected), expected)


@pytest.mark.parametrize("estimator", everything(2, 3), ids=name)
def test_every_estimator_trains_the_prior_and_through_it(estimator):
    kind, size = "with classes", 100
    unbiased = estimator.about.bias.startswith(("exact", "unbiased"))
    found = [gradients(kind, estimator, size, seed) for seed in range(30 if unbiased else 1)]
    value, ours, weights = (torch.stack(parts) for parts in zip(*found, strict=True))
    assert torch.isfinite(value).all() and torch.isfinite(ours).all()
    assert ours.abs().sum() > 0 and weights.abs().sum() > 0
    if unbiased:
        expected, logits, last = exact(kind)
        assert_mean(value.flatten(), expected)
        assert_mean(ours.flatten(0, 1), logits[0])
        assert_mean(weights / size, last)
