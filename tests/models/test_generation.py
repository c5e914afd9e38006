"""A prior that looks at the whole code: in the bound, in training, and in what is sampled."""

import math

import numpy as np
import pytest
import torch

from dvae.bottlenecks import VQ, ProjectedCodebook
from dvae.estimators import ExactEnumeration, GumbelSoftmax
from dvae.likelihoods import Gaussian
from dvae.models import ELBO, IWAE, CodebookVAE, Evaluation, PriorLikelihood
from dvae.models.evaluation import exact_log_px
from dvae.models.objectives import elbo_terms
from dvae.networks import ResNet
from dvae.priors import PRIORS, AutoregressivePrior, CategoricalPrior, MADEPrior, Sampling
from tests.estimators.catalogue import everything, name
from tests.laws import assert_chi_square, assert_mean
from tests.posteriors import bounds_of, objective_of
from tests.toy import toy_data, toy_model, toy_trainer

CODES = 3


def small(estimator=None, **kwargs):
    torch.manual_seed(0)
    model = toy_model(estimator, 2, CODES, prior=MADEPrior(4), **kwargs).eval()
    for parameter in model.prior.parameters():
        parameter.data.normal_()
    return model


def images(count=5):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_the_elbo_is_below_the_bound_of_draws_and_that_below_the_likelihood():
    model, image = small(), images(200)
    with torch.no_grad():
        features = 3 * model.encoder(image)
        one, many = (bounds_of(model, image, features, m) for m in (1, 500))
        exact = exact_log_px(image, model, 100)
        states = model.bottleneck.states(0, CODES**2)
        log_q = model.bottleneck(features).log_prob(states.unsqueeze(1).expand(-1, 200, -1))
        z = model.bottleneck.embed(states).unsqueeze(1).expand(-1, 200, -1)
        terms = model.log_px(z, image) + model.prior.log_prob(states).unsqueeze(1) - log_q
        elbo = (log_q.exp() * terms).sum(0)
    assert many.elbo.mean().item() == pytest.approx(elbo.mean().item(), abs=0.05)
    assert elbo.mean() < many.iwae.mean() < exact.mean() + 1e-3
    assert many.iwae.mean() == pytest.approx(exact.mean().item(), abs=0.02)
    torch.testing.assert_close(one.kl.mean(), (one.log_px - one.elbo).mean())


@pytest.mark.parametrize("estimator", everything(2, CODES), ids=name)
def test_every_estimator_trains_encoder_and_prior_through_the_prior(estimator):
    copies = 4000
    model, image = small(), images(1)
    features = (2 * model.encoder(image)).detach()

    def gradient(kind, count):
        rows = features.expand(count, -1).clone().requires_grad_()
        q = model.bottleneck(rows, model.prior)
        f = lambda z, code: model.prior.log_prob(code)  # noqa: E731
        value = q.expectation(f, torch.Generator().manual_seed(3), kind)
        (found,) = torch.autograd.grad(value.sum(), rows)
        return found

    truth = gradient(ExactEnumeration(), 1)
    found = gradient(estimator, copies)
    assert found.isfinite().all() and found.abs().sum() > 0
    if estimator.about.bias.split(";")[0].split(",")[0] in ("exact", "unbiased"):
        assert_mean(found, truth[0])


def test_the_terms_are_those_of_the_bound():
    model, image = small(ExactEnumeration()), images()
    q = model.bottleneck(model.encoder(image), model.prior)
    states = model.bottleneck.states(0, CODES**2)
    log_q = q.log_prob(states.unsqueeze(1).expand(-1, 5, -1))
    log_p = model.prior.log_prob(states).unsqueeze(1)
    log_px = model.log_px(model.bottleneck.embed(states).unsqueeze(1).expand(-1, 5, -1), image)
    for beta in (1.0, 0.3):
        found = elbo_terms(lambda z: model.log_px(z, image), q, model.prior, beta)
        expected = (log_q.exp() * (log_px + beta * (log_p - log_q))).sum(0)
        torch.testing.assert_close(found.value - beta * found.closed_kl, expected)


@pytest.mark.parametrize(
    "objective",
    [ELBO(), ELBO(0.5, samples=3), IWAE(3), PriorLikelihood(), PriorLikelihood("mode")],
    ids=str,
)
def test_every_objective_learns_the_prior_and_reports_what_it_is(tmp_path, objective):
    torch.manual_seed(0)
    model = toy_model(GumbelSoftmax(0.7), prior=MADEPrior(4), objective=objective)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=toy_data())
    moved = {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    alone = isinstance(objective, PriorLikelihood)
    assert moved == ({"prior"} if alone else {"encoder", "decoder", "prior"})
    logged = trainer.callback_metrics
    assert ("train/elbo" in logged) != alone and "train/loss" in logged
    assert logged["val/prior_bits"] > 0
    assert logged["val/prior_bits_per_token"] == pytest.approx(logged["val/prior_bits"].item() / 3)
    assert logged["val/uniform_bits_per_token"] == pytest.approx(math.log2(3))


def test_the_prior_alone_learns_the_distribution_of_the_codes():
    model = toy_model(prior=CategoricalPrior(), objective=PriorLikelihood())
    image = images(64)
    with torch.no_grad():
        features = 4 * model.encoder(image)
        mean = model.bottleneck(features).logits.softmax(-1).mean(0)
    optimizer = torch.optim.Adam(model.prior.parameters(), lr=0.05)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
        optimizer.zero_grad()
        out = objective_of(model, image, features)
        out.loss.backward()
        optimizer.step()
    assert out.bound is None and out.log_px is None
    torch.testing.assert_close(model.prior.log_probs.exp(), mean, atol=0.03, rtol=0.05)


def test_samples_come_from_the_prior_and_take_its_settings():
    model = small()
    drawn = model.sample(7, torch.Generator().manual_seed(1))
    codes = model.prior.sample(7, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, model.decode(codes))
    sharp = model.sample(9, temperature=1e-4)
    assert len(sharp.flatten(1).unique(dim=0)) == 1
    for given, message in (
        ({"heat": 2.0}, "sample takes temperature, top_k, top_p and guidance; got 'heat'"),
        ({"temperature": -1.0}, "temperature must be a number > 0"),
        ({"label": 3}, "MADEPrior knows no classes"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(2, **given)


def test_what_is_masked_is_drawn_given_the_rest_and_the_rest_stays():
    model, image = small(), images()
    index = model.encode(image)
    mask = torch.tensor([False, True])
    noise = lambda: torch.Generator().manual_seed(1)  # noqa: E731
    found = model.complete(image, mask, noise(), temperature=1.5)
    how = Sampling(temperature=1.5)
    codes = model.prior.complete(index, mask.expand(5, 2), noise(), how)
    assert torch.equal(codes[:, 0], index[:, 0])
    assert torch.equal(found, model.decode(codes))
    # One mask for all images, or one for each; nothing masked is the reconstruction.
    masks = torch.tensor([[False, False], [False, True], [True, True], [False, False]])
    drawn = model.complete(image[:4], masks, noise())
    torch.testing.assert_close(drawn[::3], model.reconstruct(image[:4])[::3])
    many = image[:1].expand(20_000, -1, -1, -1)
    fresh = model.complete(many, torch.tensor([False, True]), noise())
    each = torch.stack([index[0, 0].expand(CODES), torch.arange(CODES)], 1)
    kinds = torch.cdist(fresh.flatten(1), model.decode(each).flatten(1)).argmin(1)
    p = model.prior.log_prob(each).exp().detach()
    assert_chi_square(kinds.bincount(minlength=CODES), p)


@pytest.mark.parametrize(
    ("mask", "given", "message"),
    [
        ([0, 1], {}, "mask must be booleans; got torch.int64"),
        (None, {}, "mask must be booleans; got None"),
        ("all", {}, "mask must be booleans; got 'all'"),
        ([[True], [True, False]], {}, r"mask must be booleans; got \[\[True\], "),
        ([True], {}, r"mask must be of shape \(2,\) or \(5, 2\); got \(1,\)"),
        ([[True, True]] * 4, {}, r"mask must be of shape .*; got \(4, 2\)"),
        ([True, False], {}, "from there to the end; MaskedPrior takes any"),
        ([True, True], {"heat": 2.0}, "complete takes temperature, top_k, top_p and guidance"),
        ([True, True], {"label": [1, 2]}, r"one for each of 5 images; got \(2,"),
        ([True, True], {"label": 1}, "MADEPrior knows no classes"),
    ],
)
def test_what_cannot_be_completed_is_refused_in_one_line(mask, given, message):
    with pytest.raises(ValueError, match=message) as error:
        small().complete(images(), mask, **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", PRIORS.values(), ids=PRIORS)
def test_codes_that_are_none_are_refused_in_one_line_whatever_the_prior(kind):
    model, mask = toy_model(prior=kind(), latents=2), [False, True]
    for code, message in (
        (torch.zeros(4, 2), "a code must be integers; got torch.float32"),
        (torch.full((4, 2), 3), r"a code's integers must be in \[0, 3\); got 3 to 3"),
        (torch.full((4, 2), -1), r"must be in \[0, 3\); got -1 to -1"),
        (torch.zeros(4, 3).long(), r"codes must be of shape \(B, 2\); got \(4, 3\)"),
        (torch.zeros(2).long(), r"codes must be of shape \(B, 2\); got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            model.complete_code(code, mask)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="a code must be integers"):
        model.decode(torch.zeros(4, 2))
    # Integers of any type are a code, and none at all are one too.
    for dtype in (torch.uint8, torch.int32):
        assert model.complete_code(torch.ones(4, 2, dtype=dtype), mask)[:, 0].tolist() == [1] * 4
    assert model.complete_code(torch.zeros(0, 2).long(), mask).shape == (0, 2)
    assert model.sample(0).shape == (0, 1, 6, 6)


@pytest.mark.parametrize("kind", [MADEPrior, CategoricalPrior])
def test_what_codes_cost_is_measured_once_and_is_that_of_the_bound(tmp_path, kind, monkeypatch):
    torch.manual_seed(0)
    model = toy_model(prior=kind(), evaluation=Evaluation(iwae_samples=50, max_states=0))
    for parameter in model.prior.parameters():
        parameter.data.normal_()
    calls, data = [], toy_data()
    log_prob = model.prior.log_prob
    monkeypatch.setattr(model.prior, "log_prob", lambda z: calls.append(z.shape) or log_prob(z))
    (found,) = toy_trainer(tmp_path).test(model, datamodule=data, verbose=False)
    # All draws of the test, each once.
    assert sum(math.prod(shape) for shape in calls) == 50 * 230 * 3
    entropy = found["test/prior_bits"] * math.log(2) - found["test/kl"]
    assert 0 < entropy < 3 * math.log(3)
    calls.clear()
    toy_trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    # Where the KL is open the relaxed bound takes one more.
    assert len(calls) == len(data.val_dataloader()) * (1 if kind is CategoricalPrior else 2)


def with_classes(**kwargs):
    torch.manual_seed(0)
    prior = AutoregressivePrior(width=8, depth=1, heads=2, num_classes=10, label_dropout=0.5)
    return toy_model(GumbelSoftmax(0.7), 2, CODES, prior=prior, **kwargs)


def test_a_prior_with_classes_is_told_of_them_in_training_and_measured_with_and_without(tmp_path):
    model = with_classes()
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=toy_data())
    logged = trainer.callback_metrics
    assert logged["val/elbo"] != logged["val/elbo_given_label"]
    tested = toy_trainer(tmp_path).test(model, datamodule=toy_data(), verbose=False)[0]
    assert {"test/elbo", "test/iwae", "test/elbo_given_label"} <= tested.keys()
    assert model.sample(10, label=range(10), guidance=1.0).shape == (10, 1, 6, 6)
    for label, message in ((10, r"label must be in \[0, 10\); got 10"), (-1, "got -1")):
        with pytest.raises(ValueError, match=message):
            model.sample(2, label=label)


def test_the_bound_given_the_label_is_below_the_likelihood_given_it():
    model, image = with_classes().eval(), images(100)
    for parameter in model.prior.parameters():
        parameter.data.normal_(0, 0.5)
    label = torch.arange(100) % 10
    states = model.bottleneck.states(0, CODES**2)
    with torch.no_grad():
        q = model.bottleneck(model.encoder(image), model.prior)
        given = model.prior_of((image, label))
        z = model.bottleneck.embed(states).unsqueeze(1).expand(-1, 100, -1)
        every = states.unsqueeze(1).expand(-1, 100, -1)
        log_p, log_px, log_q = given.log_prob(every), model.log_px(z, image), q.log_prob(every)
        torch.testing.assert_close(log_p.exp().sum(0), torch.ones(100))
        elbo = (log_q.exp() * (log_px + log_p - log_q)).sum(0)
        exact = (log_px + log_p).logsumexp(0)
        index = q.sample(500, torch.Generator().manual_seed(1))
        kl = given.closed_kl(q) + given.open_kl(index)
        drawn = model.log_px(model.bottleneck.embed(index), image).mean(0) - kl
    assert (elbo <= exact + 1e-4).all()
    assert drawn.mean().item() == pytest.approx(elbo.mean().item(), abs=0.05)


def test_images_without_labels_are_refused_by_a_prior_with_classes():
    with pytest.raises(ValueError, match="knows 10 classes and the batch has no labels"):
        with_classes().prior_of(images(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guidance": 1.0}, "guidance needs a label and a prior with classes"),
        ({"label": 1.5}, "label must be integers; got 1.5"),
        ({"label": "3"}, "label must be integers; got '3'"),
        ({"label": True}, "label must be integers; got True"),
        ({"label": torch.zeros(2)}, "label must be integers"),
        ({"label": [1, 2, 3]}, "one for each of 2 images"),
    ],
)
def test_odd_ways_to_ask_for_samples_are_refused_in_a_line(given, message):
    with pytest.raises(ValueError, match=message):
        with_classes().sample(2, **given)
    for count in (-1, 2.5, True, None, "3"):
        with pytest.raises(ValueError, match="count must be an integer >= 0"):
            with_classes().sample(count)


def test_classes_may_be_given_in_every_form_of_integers():
    model = with_classes()
    drawn = [
        model.sample(2, torch.Generator().manual_seed(1), label)
        for label in (3, np.int64(3), [3, 3], (3, 3), np.array([3, 3]), torch.tensor(3).byte())
    ]
    assert all(torch.equal(drawn[0], other) for other in drawn)
    assert model.sample(0, label=[]).shape == (0, 1, 6, 6)


def test_labels_beyond_those_that_the_prior_knows_are_refused(tmp_path):
    model = with_classes()
    with pytest.raises(ValueError, match=r"label must be in \[0, 10\); got 0 to 11"):
        model.prior_of((images(2), torch.tensor([0, 11])))
    model.prior_of((images(2), torch.tensor([0, 9], dtype=torch.uint8)))
    data = toy_data()
    for attribute, value, message in (
        ("num_classes", 11, "the data has 11 classes and AutoregressivePrior.num_classes is 10"),
        ("labelled", False, "knows 10 classes and the data has none"),
    ):
        other = type("Other", (type(data),), {attribute: value})
        data.__class__ = other
        with pytest.raises(ValueError, match=message):
            toy_trainer(tmp_path, max_steps=1).fit(model, datamodule=data)


@pytest.mark.parametrize("kind", [VQ, ProjectedCodebook])
def test_a_prior_that_is_trained_alone_leaves_the_rest_as_it_is_to_the_bit(tmp_path, kind):
    torch.manual_seed(0)
    bottleneck = kind(6, 4, **({"in_features": 4} if kind is ProjectedCodebook else {}))
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    model = CodebookVAE(
        network, bottleneck, Gaussian(0.2), PriorLikelihood(), prior=CategoricalPrior()
    )
    before = {n: t.clone() for n, t in model.state_dict().items()}
    toy_trainer(tmp_path, max_steps=4).fit(model, datamodule=toy_data())
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"prior.logits"}


def test_a_prior_that_has_nothing_to_learn_is_not_trained_alone():
    with pytest.raises(ValueError, match="UniformPrior has nothing to learn"):
        objective_of(toy_model(objective=PriorLikelihood()), images())
    frozen = toy_model(prior=MADEPrior(4), objective=PriorLikelihood())
    frozen.prior.requires_grad_(False)
    with pytest.raises(ValueError, match="MADEPrior has nothing to learn: .* do not freeze it"):
        objective_of(frozen, images())


def test_a_prior_with_classes_is_trained_alone_too(tmp_path):
    model = with_classes(objective=PriorLikelihood())
    before = {n: t.clone() for n, t in model.state_dict().items()}
    toy_trainer(tmp_path, max_steps=2, limit_val_batches=0).fit(model, datamodule=toy_data())
    changed = {n.split(".")[0] for n, t in model.state_dict().items() if not t.equal(before[n])}
    assert changed == {"prior"}
