import itertools
import math

import pytest
import torch

from dvae.estimators import GumbelSoftmax, ReinMax
from dvae.likelihoods import Gaussian, LogitLaplace, OptimalGaussian
from dvae.models import Evaluation
from dvae.models.evaluation import exact_log_px
from tests.posteriors import bounds_of
from tests.toy import toy_data, toy_model, toy_trainer


def evaluate(model, tmp_path, batch_size=50, stage="test", **data):
    module = toy_data(**data)
    module.eval_batch_size = batch_size
    trainer = toy_trainer(tmp_path)
    return getattr(trainer, stage)(model, datamodule=module, verbose=False)[0]


def enumerate_states(model):
    latents, codes = model.bottleneck.counts_shape
    index = torch.tensor(list(itertools.product(range(codes), repeat=latents)))
    return index, model.decoder(model.bottleneck.embed(index))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return toy_model().eval()


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_numbers_do_not_change_with_the_batch_size(tmp_path, small, stage):
    results = [evaluate(small, tmp_path, size, stage) for size in (50, 13, 1)]
    for name, value in results[0].items():
        for other in results[1:]:
            assert other[name] == pytest.approx(value, rel=2e-6, abs=2e-6), name


def test_evaluating_twice_gives_the_same_number(tmp_path, small):
    torch.manual_seed(1)
    first = evaluate(small, tmp_path)
    torch.manual_seed(2)
    assert evaluate(small, tmp_path) == first


def test_exact_log_likelihood_is_the_sum_over_all_codes(small):
    image = torch.rand(5, 1, 6, 6)
    with torch.no_grad():
        exact = exact_log_px(image, small, chunk=7)
        _, params = enumerate_states(small)
        log_px = torch.stack([small.likelihood.log_prob(params, x) for x in image], 1)
        expected = (log_px - 3 * math.log(3)).logsumexp(0)
    torch.testing.assert_close(exact, expected)


def test_bernoulli_model_is_a_probability_mass():
    torch.manual_seed(0)
    from dvae.bottlenecks import CategoricalBottleneck
    from dvae.models import CategoricalVAE
    from dvae.networks import MLP

    model = CategoricalVAE(
        MLP(image_shape=(1, 2, 4), hidden=(5,)), CategoricalBottleneck(2, 3)
    ).eval()
    pixels = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8))).view(-1, 1, 2, 4)
    with torch.no_grad():
        log_px = exact_log_px(pixels, model, 100)
    assert log_px.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_elbo_below_iwae_below_the_exact_likelihood(small):
    image = torch.rand(200, 1, 6, 6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = small.encoder(image) * 3
        one, few, many = (
            bounds_of(small, image, features, m, 500, generator) for m in (1, 5, 2000)
        )
        exact = exact_log_px(image, small, 100)
    elbo = many.elbo.mean()
    # One weight is an unbiased estimate of the ELBO: compare its mean within five errors of it.
    error = (one.iwae - many.elbo).std() / math.sqrt(len(image))
    assert abs(one.iwae.mean() - elbo) < 5 * error
    assert elbo < few.iwae.mean() < many.iwae.mean() < exact.mean() + 1e-3
    assert many.iwae.mean() == pytest.approx(exact.mean().item(), abs=0.02)


def test_elbo_is_the_expectation_over_all_codes(small):
    image = torch.rand(20, 1, 6, 6)
    with torch.no_grad():
        features = small.encoder(image)
        index, params = enumerate_states(small)
        log_px = small.likelihood.pairwise_log_prob(params, image)
        q = small.bottleneck(features)
        log_q = q.log_prob(index.unsqueeze(1).expand(-1, 20, -1))
        expected = (log_q.exp() * log_px).sum(0) - q.kl(small.prior)
        got = bounds_of(small, image, features, 4000, 9000)
    assert got.elbo.mean().item() == pytest.approx(expected.mean().item(), abs=0.02)


def test_memory_stays_within_the_chunk(monkeypatch, small):
    sizes, log_px = [], small.log_px

    def watched(code, image):
        sizes.append(code.shape[0] * code.shape[1])
        return log_px(code, image)

    monkeypatch.setattr(small, "log_px", watched)

    image = torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        features = small.encoder(image)
        bounds_of(small, image, features, 5000, 512)
    assert max(sizes) <= 512
    assert sum(sizes) == 3 * 5000


@pytest.mark.parametrize("estimator", [GumbelSoftmax(0.5, hard=True), ReinMax(1.1)])
def test_a_hard_estimator_has_no_relaxation_gap(tmp_path, estimator):
    assert evaluate(toy_model(estimator), tmp_path, stage="validate")["val/relaxation_gap"] == 0


def test_a_relaxed_estimator_has_one(tmp_path, small):
    result = evaluate(small, tmp_path, stage="validate")
    gap = result["val/elbo_relaxed"] - result["val/elbo"]
    assert abs(gap) > 1e-4
    assert result["val/relaxation_gap"] == pytest.approx(gap, abs=1e-5)


def test_all_names_of_the_test_are_there(tmp_path, small):
    names = {"elbo", "iwae", "kl", "reconstruction", "bits_per_dim", "log_px", "perplexity"}
    result = evaluate(small, tmp_path)
    assert {f"test/{name}" for name in names | {"usage", "dead_codes"}} == set(result)
    assert result["test/bits_per_dim"] == pytest.approx(
        -result["test/elbo"] / (36 * math.log(2)), rel=1e-5
    )


@pytest.mark.parametrize("likelihood", [Gaussian(0.2), OptimalGaussian(), LogitLaplace()])
def test_a_density_has_eight_bits_more_and_no_batch_in_it(tmp_path, likelihood):
    torch.manual_seed(0)
    model = toy_model(likelihood=likelihood).eval()
    results = [evaluate(model, tmp_path, size) for size in (50, 7)]
    assert results[0]["test/bits_per_dim"] == pytest.approx(
        -results[0]["test/elbo"] / (36 * math.log(2)) + 8, rel=1e-5
    )
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize(
    ("key", "value"), [("iwae_samples", 0), ("chunk", 0), ("max_states", -1), ("seed", -1)]
)
def test_bad_values_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"evaluation.{key} must be >= .*; got {value}"):
        Evaluation(**{key: value})


@pytest.mark.parametrize("key", ["iwae_samples", "chunk", "max_states", "seed"])
def test_a_value_that_torch_cannot_count_to_is_refused(key):
    with pytest.raises(ValueError, match=f"evaluation.{key} must be <= 2147483647; got 10000000"):
        Evaluation(**{key: 10**30})
