"""A density sees the same pixels wherever it is asked, with a noise that is none of the codes'."""

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from dvae.bottlenecks import CategoricalPosterior
from dvae.callbacks.gradient_quality import gradient_quality
from dvae.callbacks.latent_table import latent_table
from dvae.cli.checks import check_objective
from dvae.estimators import GumbelSoftmax
from dvae.explore.codes import look
from dvae.lab.problem import vae_problem
from dvae.likelihoods import Bernoulli, Gaussian, Laplace, OptimalGaussian
from dvae.models import Evaluation
from tests.laws import FAILURE_RATE
from tests.toy import toy_data, toy_model, toy_trainer

# All that weighs images: the noise of each is looked at by itself.
USES = {
    "fit": lambda model, images, path: toy_trainer(path, max_steps=8, limit_val_batches=0).fit(
        model, datamodule=toy_data()
    ),
    "validate": lambda model, images, path: toy_trainer(path).validate(
        model, datamodule=toy_data(), verbose=False
    ),
    "test": lambda model, images, path: toy_trainer(path).test(
        model, datamodule=toy_data(), verbose=False
    ),
    "gradient": lambda model, images, path: gradient_quality(model, images, draws=2),
    "lab": lambda model, images, path: vae_problem(model, images, "toy").f(
        F.one_hot(model.encode(images)[None], 3).float()
    ),
    "table": lambda model, images, path: latent_table(model, images, model.encode(images), None),
    "look": lambda model, images, path: look(model.eval(), images[0], {}),
    "check": lambda model, images, path: check_objective(model),
}


def seen_by(likelihood, use, tmp_path):
    """Return the pixels that a likelihood weighs and those that the encoder sees, on 0 to 255."""
    model = toy_model(likelihood=likelihood, evaluation=Evaluation(iwae_samples=2))
    weighed, encoded = [], []

    def watched(params, x, log_prob=likelihood.log_prob):
        weighed.append(x.detach().double())
        return log_prob(params, x)

    likelihood.log_prob = watched
    model.encoder.register_forward_hook(lambda m, args, out: encoded.append(args[0].double()))
    images = next(iter(toy_data_images())).float() / 255
    USES[use](model, images, tmp_path)
    return [torch.cat([x.flatten(0, -4) for x in seen]) * 255 for seen in (weighed, encoded)]


def toy_data_images():
    return toy_data().load("train").images.split(40)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("make", [Gaussian, Laplace, OptimalGaussian])
def test_a_density_weighs_pixels_spread_over_their_level(make, use, tmp_path):
    weighed, encoded = seen_by(make(), use, tmp_path)
    # The encoder sees them as they are stored.
    torch.testing.assert_close(encoded, encoded.round(), atol=1e-4, rtol=0)
    noise = (weighed * 256 / 255).frac().unique()
    assert len(noise) >= 36
    assert stats.kstest(noise.numpy(), stats.uniform.cdf).pvalue > FAILURE_RATE


@pytest.mark.parametrize("use", USES)
def test_a_mass_weighs_pixels_as_they_are_stored(use, tmp_path):
    weighed, _ = seen_by(Bernoulli(), use, tmp_path)
    torch.testing.assert_close(weighed, weighed.round(), atol=1e-4, rtol=0)


def test_training_draws_the_noise_anew_at_every_visit(tmp_path):
    weighed, _ = seen_by(Gaussian(), "fit", tmp_path)
    assert len(weighed) == 8 * 16 and len(weighed.unique()) > 0.9 * weighed.numel()


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_noise_of_pixels_and_of_codes_are_two_streams(stage, tmp_path, monkeypatch):
    model = toy_model(GumbelSoftmax(1.0, hard=True), likelihood=Gaussian())
    states = {}

    def watch(owner, name, place):
        method = getattr(owner, name)

        def watched(*args):
            generator = args[place]
            states.setdefault(name, generator.get_state())
            return method(*args)

        setattr(owner, name, watched)

    watch(model.likelihood, "dequantize", 1)
    monkeypatch.setattr(CategoricalPosterior, "sample", CategoricalPosterior.sample)
    monkeypatch.setattr(CategoricalPosterior, "expectation", CategoricalPosterior.expectation)
    watch(CategoricalPosterior, "sample", 2)
    watch(CategoricalPosterior, "expectation", 2)
    found = getattr(toy_trainer(tmp_path), stage)(model, datamodule=toy_data(), verbose=False)
    assert not torch.equal(states["dequantize"], states["sample"])
    if stage == "validate":
        # A code that is hard is the one that was drawn.
        assert torch.equal(states["expectation"], states["sample"])
        assert found[0]["val/relaxation_gap"] == pytest.approx(0, abs=1e-4)


def test_no_two_purposes_seeds_or_processes_share_a_stream():
    streams = [
        Evaluation(seed=seed).noise(purpose, rank=rank)
        for seed in (0, 1, 2)
        for purpose in ("codes", "pixels", "prior")
        for rank in (0, 1, 2)
    ]
    first = torch.stack([torch.rand(2, generator=stream) for stream in streams])
    assert len(first.unique(dim=0)) == 27
    again = Evaluation(seed=2).noise("prior", rank=2)
    assert torch.equal(torch.rand(2, generator=again), first[-1])
