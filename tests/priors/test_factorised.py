"""Laws of the priors whose positions are independent."""

import itertools
import math

import pytest
import torch

from dvae.bottlenecks import CategoricalBottleneck, ProjectedCodebook, ResidualVQ
from dvae.models import CategoricalVAE
from dvae.priors import PRIORS, CategoricalPrior, FactorisedPrior, UniformPrior
from tests.laws import assert_chi_square
from tests.toy import toy_data, toy_model, toy_trainer

PROBS = [0.5, 0.3, 0.2]
# Positions and table of latents, of a grid, and of a grid of several integers a position.
CODES = {"latents": ((2,), (2, 3)), "grid": ((1, 2), (3,)), "residual": ((1, 1, 2), (2, 3))}


def built(prior, code):
    torch.manual_seed(0)
    prior.build(*CODES[code])
    for parameter in prior.parameters():
        parameter.data.normal_()
    return prior


def states(code):
    pairs = list(itertools.product(range(3), repeat=2))
    return torch.tensor(pairs).view(-1, *CODES[code][0])


def kinds():
    return [UniformPrior(), CategoricalPrior(PROBS), CategoricalPrior()]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("which", range(3))
def test_p_sums_to_one_and_one_hot_codes_have_the_probability_of_their_integers(code, which):
    prior, index = built(kinds()[which], code), states(code)
    log_p = prior.log_prob(index)
    assert log_p.exp().sum().item() == pytest.approx(1)
    one_hot = torch.nn.functional.one_hot(index, 3).float()
    torch.testing.assert_close(prior.log_prob(one_hot), log_p)
    # With leading axes, and linear in what is relaxed.
    torch.testing.assert_close(prior.log_prob(index.expand(4, *index.shape))[2], log_p)
    half = (one_hot[:1] + one_hot[4:5]) / 2
    torch.testing.assert_close(prior.log_prob(half), (log_p[:1] + log_p[4:5]) / 2)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("which", range(3))
def test_samples_have_their_frequencies(code, which):
    prior = built(kinds()[which], code)
    drawn = prior.sample(20_000, torch.Generator().manual_seed(1))
    assert drawn.shape == (20_000, *CODES[code][0])
    pairs = drawn.flatten(1) @ torch.tensor([3, 1])
    assert_chi_square(pairs.bincount(minlength=9), prior.log_prob(states(code)).exp().detach())
    assert torch.equal(drawn, prior.sample(20_000, torch.Generator().manual_seed(1)))


def test_a_uniform_prior_has_nothing_to_learn_and_is_exact():
    prior = UniformPrior()
    prior.build((32, 32), (8192,))
    assert not list(prior.parameters())
    found = prior.log_prob(torch.zeros(1, 32, 32, dtype=torch.int64)).item()
    assert found == pytest.approx(-1024 * math.log(8192), rel=1e-6)


def test_a_model_learns_the_frequencies_of_its_codes():
    # With a posterior that is fixed, the best prior is the mean of the posteriors.
    model = toy_model(prior=CategoricalPrior())
    image = torch.rand(64, 1, 6, 6)
    with torch.no_grad():
        q = model.bottleneck(4 * model.encoder(image))
        mean = q.logits.softmax(-1).mean(0)
    optimizer = torch.optim.Adam(model.prior.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        q.kl(model.prior).mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.prior.log_probs.exp(), mean, atol=1e-3, rtol=1e-3)


def test_every_prior_that_factorises_is_found():
    assert {"UniformPrior", "CategoricalPrior"} <= set(PRIORS)
    assert all(issubclass(PRIORS[name], FactorisedPrior) for name in ("UniformPrior",))


def test_a_learned_prior_is_trained_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    model = toy_model(prior=CategoricalPrior())
    trainer = toy_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=toy_data())
    assert model.prior.logits.shape == (3, 3) and model.prior.logits.detach().abs().sum() > 0
    again = toy_model(prior=CategoricalPrior())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.prior.log_probs, model.prior.log_probs)
    assert model.sample(5).shape == (5, 1, 6, 6)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([0.5, 0.5], r"must be 3 probabilities above 0 that sum to 1; got \[0.5, 0.5\]"),
        ([0.7, 0.7, 0.1], "sum to 1"),
        ([1.0, 0.0, 0.0], "above 0"),
    ],
)
def test_wrong_probabilities_are_refused(probs, message):
    with pytest.raises(ValueError, match=message):
        toy_model(prior=CategoricalPrior(probs))


def test_a_prior_belongs_to_one_model():
    prior = CategoricalPrior()
    CategoricalVAE(prior=prior)
    with pytest.raises(ValueError, match="part of another model"):
        CategoricalVAE(prior=prior)


def test_a_bottleneck_says_where_its_prior_went():
    for make in (
        lambda: ProjectedCodebook(4, 2, learned_prior=True),
        lambda: CategoricalBottleneck(2, 2, prior=[0.4, 0.6]),
    ):
        with pytest.raises(ValueError, match=r"write model\.prior: \{class_path: CategoricalPrior"):
            make()
    assert ResidualVQ(4, 2, 2).counts_shape == (2, 4)
