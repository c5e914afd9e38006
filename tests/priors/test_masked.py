"""Laws of the prior that fills in any integers of a code given any others."""

import copy
import itertools
import math

import pytest
import torch

from dvae.estimators import GumbelSoftmax, Reinforce
from dvae.models import ELBO, IWAE, PriorLikelihood
from dvae.models.evaluation import exact_log_px
from dvae.priors import PRIORS, MaskedPrior, Sampling
from tests.laws import assert_chi_square, assert_mean, one_hot
from tests.posteriors import bounds_of, objective_of
from tests.toy import toy_data, toy_model, toy_trainer

# Latents with categories of their own, and a grid.
CODES = {"latents": ((3,), (3, 3)), "grid": ((2, 2), (3,))}
EVERY = pytest.mark.parametrize("code", CODES)
MANY = 20_000


def masked(**kwargs):
    return MaskedPrior(**({"width": 16, "depth": 1, "heads": 2, "steps": 9, "orders": 24} | kwargs))


@torch.no_grad()
def built(code="grid", spread=0.7, **kwargs):
    """Build a prior with random weights, whose logits have a given standard deviation."""
    torch.manual_seed(0)
    prior = masked(**kwargs)
    prior.build(*CODES[code])
    for parameter in prior.parameters():
        parameter.normal_()
    index = states(prior).flatten(1)
    logits = prior.logits(index, torch.arange(prior.positions) < 1)
    for parameter in (prior.net.head, prior.net.bias):
        parameter.mul_(spread / logits.std())
    return prior.eval()


def states(prior):
    tuples = itertools.product(range(prior.num_codes), repeat=math.prod(prior.index_shape))
    return torch.tensor(list(tuples)).view(-1, *prior.index_shape)


def counts(prior, drawn):
    powers = prior.num_codes ** torch.arange(prior.positions).flip(0)
    return (drawn.flatten(1) @ powers).bincount(minlength=prior.num_codes**prior.positions)


@torch.no_grad()
def one_by_one(prior, given=(), label=None):
    """Log p of every code in every order of the integers that are not given, ``(orders, N)``."""
    index, positions = states(prior).flatten(1), prior.positions
    label = None if label is None else torch.full((len(index),), label)

    def log_p(i, seen):
        visible = torch.tensor([s in seen for s in range(positions)])
        log_p = prior.logits(index, visible, label)[:, i].log_softmax(-1)
        return log_p.gather(-1, index[:, i : i + 1]).squeeze(-1)

    left = [i for i in range(positions) if i not in given]
    found = [
        sum(log_p(i, {*given, *order[:t]}) for t, i in enumerate(order))
        for order in itertools.permutations(left)
    ]
    return torch.stack(found)


def mean_of_orders(log_p):
    return log_p.logsumexp(0) - math.log(len(log_p))


@EVERY
@pytest.mark.parametrize("label", [None, 1])
def test_p_is_the_mean_over_the_orders_and_sums_to_one(code, label):
    prior = built(code, num_classes=2)
    index = states(prior)
    given = prior if label is None else prior.given(torch.full((len(index),), label))
    with torch.no_grad():
        log_p = given.log_prob(index)
        assert log_p.std() > 0.3  # it says something
        torch.testing.assert_close(log_p, mean_of_orders(one_by_one(prior, (), label)))
        assert log_p.exp().sum().item() == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(given.log_prob(one_hot(index, 3, torch.float32)), log_p)
        leading = given.log_prob(index.expand(2, 4, *index.shape))
        torch.testing.assert_close(leading, log_p.expand(2, 4, -1))
        assert prior.log_prob(index[:0]).shape == (0,)
        assert torch.equal(given.log_prob(index), log_p)  # no noise in it


@pytest.mark.parametrize("orders", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_in_any_number_of_steps_p_sums_to_one_and_samples_have_their_frequencies(steps, orders):
    prior = built(spread=0.3, steps=steps, orders=orders)
    index = states(prior)
    with torch.no_grad():
        p = prior.log_prob(index).exp()
    assert p.sum().item() == pytest.approx(1, rel=1e-5)
    drawn = prior.sample(MANY, torch.Generator().manual_seed(steps))
    assert_chi_square(counts(prior, drawn), p)
    assert torch.equal(drawn, prior.sample(MANY, torch.Generator().manual_seed(steps)))


@EVERY
@pytest.mark.parametrize("label", [None, 1])
def test_samples_one_by_one_have_the_frequencies_of_the_mean_over_all_orders(code, label):
    prior = built(code, 0.3, num_classes=2)
    labels = None if label is None else torch.full((MANY,), label)
    drawn = prior.sample(MANY, torch.Generator().manual_seed(1), label=labels)
    assert drawn.shape == (MANY, *CODES[code][0])
    assert_chi_square(counts(prior, drawn), mean_of_orders(one_by_one(prior, (), label)).exp())


@EVERY
@pytest.mark.parametrize("relaxed", [False, True])
def test_in_training_it_estimates_the_bound_of_all_orders(code, relaxed):
    prior = built(code)
    every = states(prior)
    bound = one_by_one(prior).mean(0)
    assert (bound <= prior.log_prob(every) + 1e-5).all()
    assert 0.5 < bound.exp().sum() < 1
    prior.train()
    for which in (2, 11):
        index = every[which].expand(MANY, *every.shape[1:])
        rows = one_hot(index, 3, torch.float32) if relaxed else index
        with torch.no_grad():
            assert_mean(prior.log_prob(rows), bound[which])


def test_draws_of_one_example_have_one_mask_and_examples_their_own():
    prior = built().train()
    index = states(prior)[5].expand(4, 30, 2, 2)
    with torch.no_grad():
        found = prior.log_prob(index)
    torch.testing.assert_close(found, found[:1].expand(4, -1))
    assert len(found[0].unique()) > 5


@EVERY
def test_it_starts_uniform(code):
    prior = masked()
    prior.build(*CODES[code])
    expected = torch.full((4,), -prior.positions * math.log(3))
    for mode in (True, False):
        torch.testing.assert_close(prior.train(mode).log_prob(states(prior)[5:9]), expected)


@EVERY
def test_logits_change_with_all_that_is_seen_and_with_nothing_else(code):
    prior = built(code)
    x = torch.rand(2, prior.positions, 3, requires_grad=True)
    for seen in itertools.product([False, True], repeat=prior.positions):
        logits = prior.logits(x, torch.tensor(seen))
        for t in range(prior.positions):
            if not seen[t]:
                gradient = torch.autograd.grad(logits[:, t].square().sum(), x, retain_graph=True)
                assert tuple((gradient[0].abs().amax((0, 2)) > 0).tolist()) == seen


def test_integers_at_any_place_are_drawn_given_the_others():
    prior = built()
    index = torch.tensor([[0, 2], [1, 0]]).expand(MANY, 2, 2)
    mask = torch.tensor([[True, False], [False, True]])
    drawn = prior.complete(index, mask, torch.Generator().manual_seed(1))
    assert torch.equal(drawn[:, ~mask], index[:, ~mask])
    every = states(prior)
    p = mean_of_orders(one_by_one(prior, given=(1, 2))).exp()
    asked = (every[:, 0, 1] == 2) & (every[:, 1, 0] == 1)
    assert p[asked].sum().item() == pytest.approx(1, rel=1e-5)
    assert_chi_square(counts(prior, drawn), p * asked)


def test_what_is_given_counts_as_drawn_first_so_that_fewer_steps_are_left(monkeypatch):
    prior = built(steps=2, orders=1)  # of one integer and of three
    passes, logits = [], prior.logits
    monkeypatch.setattr(prior, "logits", lambda *args: passes.append(args) or logits(*args))
    index, mask = states(prior)[:3], torch.arange(4).view(2, 2)
    for drawn, expected in ((0, 0), (1, 1), (3, 1), (4, 2)):
        passes.clear()
        prior.complete(index, mask < drawn)
        assert len(passes) == expected


@pytest.mark.parametrize("steps", [1, 3])
def test_one_integer_is_drawn_as_the_network_has_it_and_each_image_has_its_mask(steps):
    prior = built(steps=steps, orders=2)
    index = states(prior)[:16]
    masks = torch.tensor(list(itertools.product([False, True], repeat=4))).view(16, 2, 2)
    found = prior.complete(index, masks, torch.Generator().manual_seed(1))
    assert torch.equal(found[~masks], index[~masks])
    assert not torch.equal(found, index)
    assert prior.complete(index[:0], masks[:0]).shape == (0, 2, 2)
    mask = torch.arange(4).view(2, 2) == 2
    drawn = prior.complete(index[7].expand(MANY, 2, 2), mask, torch.Generator().manual_seed(2))
    logits = prior.logits(index[7:8].flatten(1), ~mask.flatten())[0, 2]
    assert_chi_square(drawn[:, 1, 0].bincount(minlength=3), logits.softmax(-1).detach())


@pytest.mark.parametrize("how", [Sampling(0.5), Sampling(guidance=1.5), Sampling(top_k=2)], ids=str)
def test_samples_that_are_sharpened_cut_or_guided_have_the_frequencies_they_should(how):
    prior = built("latents", 0.3, steps=1, num_classes=2)
    label = torch.ones(MANY, dtype=torch.int64)
    drawn = prior.sample(MANY, torch.Generator().manual_seed(1), how, label)
    nothing, index, w = torch.zeros(3, dtype=torch.bool), states(prior).flatten(1), how.guidance
    with torch.no_grad():
        logits = (1 + w) * prior.logits(index, nothing, label[:27])
        logits = logits - w * prior.logits(index, nothing)
    p = how(logits).softmax(-1).gather(-1, index.unsqueeze(-1)).prod(-2).squeeze(-1)
    assert_chi_square(counts(prior, drawn), p)


def test_labels_left_out_in_training_leave_the_law_without_a_label():
    prior = built(num_classes=2, label_dropout=0.0).train()
    index, label = torch.zeros(8, 2, 2, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    prior.given(label).log_prob(index).sum().backward()
    assert (prior.net.classes.grad.abs().sum(1) > 0).tolist() == [False, True, False]
    prior.label_dropout, prior.net.classes.grad = 1.0, None
    prior.given(label).log_prob(index).sum().backward()
    assert (prior.net.classes.grad.abs().sum(1) > 0).tolist() == [False, False, True]


def test_half_precision_is_left_where_log_p_is_computed():
    prior = built()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        log_p = prior.log_prob(states(prior))
    assert log_p.dtype == torch.float32
    assert log_p.exp().sum().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masked(steps=0), "MaskedPrior.steps must be an integer >= 1; got 0"),
        (lambda: masked(orders=1.5), "MaskedPrior.orders must be an integer >= 1; got 1.5"),
        (lambda: masked(width=10, heads=4), "MaskedPrior.width must be a multiple of heads, 4"),
        (lambda: masked(label_dropout=2.0), r"label_dropout must be in \[0, 1\]; got 2.0"),
        (lambda: built(num_classes=2).sample(1, label=torch.tensor([2])), r"in \[0, 2\); got 2"),
        (lambda: built().sample(1, label=torch.tensor([0])), "MaskedPrior knows no classes"),
        (lambda: built().log_prob(torch.zeros(1, 2, 2).long(), torch.ones(1)), "knows no classes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_what_is_built_is_found_copied_and_loaded():
    assert PRIORS["MaskedPrior"] is MaskedPrior
    prior, again = built(orders=2, steps=2), masked(orders=2, steps=2)
    again.build(*CODES["grid"])
    again.load_state_dict(prior.state_dict())
    index = states(prior)
    with torch.no_grad():
        log_p = prior.log_prob(index)
        assert torch.equal(again.eval().log_prob(index), log_p)
        assert torch.equal(copy.deepcopy(prior).log_prob(index), log_p)


# Training


@pytest.mark.parametrize("training", [False, True])
def test_gradients_go_through_what_is_seen_and_what_is_predicted(training):
    prior = built(orders=2).double().train(training)
    code = torch.rand(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)

    def log_prob(x):
        torch.manual_seed(0)  # one mask
        return prior.log_prob(x)

    # x-transformers takes its softmax in float32.
    assert torch.autograd.gradcheck(log_prob, code, eps=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", [ELBO(), PriorLikelihood()], ids=str)
@pytest.mark.parametrize("estimator", [GumbelSoftmax(0.7), Reinforce()], ids=str)
def test_it_is_trained_with_a_model_and_after_it(estimator, objective):
    model = toy_model(estimator, prior=masked(), objective=objective)
    torch.nn.init.normal_(model.prior.net.head)
    image = torch.rand(16, 1, 6, 6)
    objective_of(model, image).loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert all(g.isfinite().all() for g in found.values())
    alone = isinstance(objective, PriorLikelihood)
    for part in ("prior", "encoder"):
        moved = any(g.abs().sum() > 0 for n, g in found.items() if n.startswith(part))
        assert moved == (part == "prior" or not alone)
    weights = [n for n, _ in model.prior.named_parameters()]
    assert all(found[f"prior.{n}"].abs().sum() > 0 for n in weights)


def test_a_run_reports_its_bounds(tmp_path):
    torch.manual_seed(0)
    model = toy_model(GumbelSoftmax(0.7), prior=masked(steps=2, orders=1))
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=toy_data())
    logged = trainer.callback_metrics
    assert {"train/elbo", "val/elbo", "val/prior_bits"} <= set(logged)
    first = trainer.validate(model, toy_data(), verbose=False)
    assert first == trainer.validate(model, toy_data(), verbose=False)
    assert model.complete(torch.rand(2, 1, 6, 6), [False, True, False]).shape == (2, 1, 6, 6)


def test_elbo_below_iwae_below_the_exact_likelihood():
    model = toy_model(prior=masked(steps=2, orders=2)).eval()
    with torch.no_grad():
        model.prior.net.head.normal_(std=0.3)
        image = torch.rand(100, 1, 6, 6)
        features = model.encoder(image) * 3
        one, many = (bounds_of(model, image, features, m, 500) for m in (1, 300))
        exact = exact_log_px(image, model, 100)
    assert one.elbo.mean() < many.iwae.mean() < exact.mean() + 1e-2
    assert many.iwae.mean() == pytest.approx(exact.mean().item(), abs=0.05)


def test_it_learns_which_codes_there_are():
    torch.manual_seed(0)
    prior = masked(steps=4, orders=2)
    prior.build(*CODES["grid"])
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.01)
    alike = torch.arange(3).view(3, 1, 1).expand(3, 2, 2).repeat(20, 1, 1)
    for _ in range(150):
        optimizer.zero_grad()
        (-prior.log_prob(alike).mean()).backward()
        optimizer.step()
    prior.eval()
    with torch.no_grad():
        assert prior.log_prob(alike[:3]).exp().sum() > 0.9
    mask = torch.tensor([[True, False], [True, True]])
    found = prior.complete(alike, mask, torch.Generator().manual_seed(1))
    assert (found == alike).double().mean() > 0.9


@pytest.mark.parametrize("classes", [0, 6])
def test_the_bound_of_several_draws_has_no_name_of_a_bound_where_p_is_estimated(tmp_path, classes):
    model = toy_model(prior=masked(num_classes=classes, steps=2), objective=IWAE(3))
    trainer = toy_trainer(tmp_path, max_steps=2)
    trainer.fit(model, datamodule=toy_data())
    logged = trainer.callback_metrics
    assert "train/elbo" not in logged and logged["train/loss"].isfinite()
    assert "bound" not in model.last_terms
