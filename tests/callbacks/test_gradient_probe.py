import csv
import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.loggers import CSVLogger

from dvae.bottlenecks import ProjectedCodebook, Upkeep
from dvae.callbacks import Curves, GradientProbe
from dvae.callbacks.gradient_quality import gradient_quality
from dvae.cli import main
from dvae.estimators import (
    REBAR,
    RLOO,
    GumbelSoftmax,
    MeanField,
    Reinforce,
    ReinMax,
    StraightThrough,
)
from dvae.models import ELBO, IWAE, CodebookVAE, Evaluation
from dvae.networks import ResNet
from dvae.priors import MADEPrior
from tests.estimators.catalogue import everything, name
from tests.laws import assert_mean, assert_same_mean, assert_smaller
from tests.toy import toy_data, toy_model, toy_trainer

CONFIG = Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml"

REFERENCES = pytest.mark.parametrize("max_states", [4096, 0], ids=["enumeration", "rloo"])


def images(count=4):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def trained(estimator):
    """Return a model whose posteriors are not uniform."""
    torch.manual_seed(0)
    model = toy_model(estimator)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(8)
        model.decoder[0].weight.mul_(4)
    return model


def repeat(model, count, **kwargs):
    """Measure with other noise each time."""
    found = []
    for seed in range(count):
        model.evaluation = Evaluation(seed=seed)
        found.append(gradient_quality(model, images(), **kwargs))
    return found


def squared_bias(found):
    return torch.tensor([abs(q.bias) * q.bias for q in found])


def fit(tmp_path, estimator, callbacks, **kwargs):
    torch.manual_seed(0)
    model = toy_model(estimator())
    trainer = toy_trainer(tmp_path, max_epochs=2, callbacks=callbacks, **kwargs)
    trainer.fit(model, datamodule=toy_data(binarization="dynamic"))
    return trainer, model


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@REFERENCES
@pytest.mark.parametrize("estimator", [lambda: GumbelSoftmax(0.7), Reinforce, REBAR])
def test_the_training_does_not_change_by_a_bit(tmp_path, estimator, max_states):
    probe = GradientProbe(3, batch=4, draws=5, max_states=max_states, reference_draws=128)
    trainer, plain = fit(tmp_path / "a", estimator, [])
    ends = torch.get_rng_state()
    watched_trainer, watched = fit(tmp_path / "b", estimator, [probe])
    assert torch.equal(torch.get_rng_state(), ends)
    assert "probe/variance" in watched_trainer.callback_metrics
    assert same(plain.state_dict(), watched.state_dict())
    assert same(trainer.optimizers[0].state_dict(), watched_trainer.optimizers[0].state_dict())


@REFERENCES
@pytest.mark.parametrize("estimator", everything(3, 2), ids=name)
def test_every_estimator_is_measured_and_left_alone(estimator, max_states):
    torch.manual_seed(0)
    model = toy_model(estimator, codes=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    quality = gradient_quality(model, images(), 5, max_states, 128)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(before, model.state_dict())
    assert model.training and model.bottleneck.estimator is estimator
    assert all(parameter.grad is None for parameter in model.parameters())
    values = torch.tensor(list(quality.metrics().values()))
    assert torch.isfinite(values).all()
    assert quality.variance >= 0 and abs(quality.cosine) <= 1 + 1e-6
    assert quality == gradient_quality(model, images(), 5, max_states, 128)


@REFERENCES
@pytest.mark.parametrize("estimator", [RLOO(64), REBAR()], ids=name)
def test_an_unbiased_estimator_has_no_bias(estimator, max_states):
    # RLOO of 64 draws varies less than the reference, REBAR more: the noise of both matters.
    found = repeat(trained(estimator), 60, draws=6, max_states=max_states, reference_draws=128)
    assert_mean(squared_bias(found), 0.0)


def of_the_prior_alone(estimator, prior, beta=1.0):
    """Return a model whose decoder does not look at the code."""
    torch.manual_seed(0)
    model = toy_model(estimator, prior=prior, objective=ELBO(beta))
    with torch.no_grad():
        model.encoder[-1].weight.mul_(8)
        model.decoder[0].weight.zero_()
        for parameter in model.prior.parameters():
            parameter.normal_()
    return model


def test_the_prior_is_in_the_gradient_where_its_kl_has_no_closed_form():
    torch.manual_seed(0)
    for prior, beta, some in ((None, 1.0, False), (MADEPrior(4), 0.0, False), (MADEPrior(4), 1, 1)):
        found = gradient_quality(of_the_prior_alone(RLOO(2), prior, beta), images(), 5)
        assert (found.variance > 1e-9) == bool(some)
    half, one = (of_the_prior_alone(RLOO(2), MADEPrior(4), beta) for beta in (0.5, 1.0))
    variance = [gradient_quality(model, images(), 5).variance for model in (half, one)]
    assert variance[0] == pytest.approx(variance[1] / 4, rel=1e-3)


@REFERENCES
def test_an_unbiased_estimator_has_no_bias_through_the_prior(max_states):
    model = of_the_prior_alone(RLOO(16), MADEPrior(4))
    found = repeat(model, 40, draws=4, max_states=max_states, reference_draws=128)
    assert_mean(squared_bias(found), 0.0)


def test_a_biased_one_has_the_same_bias_against_both_references():
    model = trained(StraightThrough())
    enumerated = squared_bias(repeat(model, 60, draws=6))
    sampled = squared_bias(repeat(model, 60, draws=6, max_states=0, reference_draws=128))
    assert_same_mean(enumerated, sampled)
    assert_smaller(torch.zeros(60), enumerated)


@pytest.mark.parametrize("estimator", [GumbelSoftmax(0.7, hard=True), StraightThrough(), ReinMax()])
def test_a_fused_code_book_is_measured_against_the_same_reference(estimator):
    references, state = [], torch.get_rng_state()
    for kernel in ("plain", "blocked"):
        torch.manual_seed(0)
        network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
        upkeep = Upkeep(kmeans=0)
        model = CodebookVAE(
            network, ProjectedCodebook(16, 4, 4, estimator, upkeep=upkeep, kernel=kernel)
        )
        before = {k: v.clone() for k, v in model.state_dict().items()}
        quality = gradient_quality(model, images(), 6, 0, 128)
        assert same(before, model.state_dict()) and model.bottleneck.estimator is estimator
        assert quality.reference == "rloo" and quality.variance > 0
        # Its norm.
        references.append(quality.bias / quality.relative_bias)
    torch.set_rng_state(state)
    assert references[0] == pytest.approx(references[1], rel=1e-5)


def test_the_softmax_itself_has_a_bias_and_no_variance():
    quality = gradient_quality(trained(MeanField()), images(), 5)
    assert quality.variance < 1e-12  # rounding
    assert quality.relative_bias > 0.05


def test_the_variance_is_that_of_the_whole_distribution():
    """REINFORCE without baseline: visit all codes of all images, weigh by q."""
    model = trained(Reinforce("none"))
    model.eval()
    x = images()
    features = model.encoder(x)
    q = features.detach().view(4, 3, 3).softmax(-1)
    states = torch.cartesian_prod(*[torch.arange(3)] * 3)
    codes = torch.nn.functional.one_hot(states, 3).float()
    parameters = list(model.encoder.parameters())
    total = 0.0
    for b in range(4):
        with torch.no_grad():
            f = model.log_px(codes.flatten(1).unsqueeze(1), x[b : b + 1]).squeeze(1)
        weight = (codes * q[b]).sum(-1).prod(-1)
        gradients = []
        for z in range(27):
            in_features = torch.zeros(4, 9)
            in_features[b] = (f[z] * (codes[z] - q[b])).flatten() / 4
            parts = torch.autograd.grad(features, parameters, in_features, retain_graph=True)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        g = torch.stack(gradients)
        mean = (weight.unsqueeze(1) * g).sum(0)
        total += float((weight * (g - mean).square().sum(1)).sum())
    found = repeat(model, 60, draws=20)
    assert_mean(torch.tensor([quality.variance for quality in found]), total)


def test_a_lower_temperature_trades_bias_for_variance():
    cold = repeat(trained(GumbelSoftmax(0.1)), 20, draws=20)
    warm = repeat(trained(GumbelSoftmax(2.0)), 20, draws=20)
    assert_smaller(*[torch.tensor([q.variance for q in found]) for found in (warm, cold)])
    assert_smaller(squared_bias(cold), squared_bias(warm))


@pytest.mark.parametrize("estimator", [Reinforce("none"), RLOO(64)], ids=name)
def test_the_decoder_never_sees_more_codes_than_fit_in_memory(estimator):
    model = toy_model(estimator, latents=6, codes=4)
    seen = []
    model.decoder.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    quality = gradient_quality(model, images(), 2)
    assert quality.reference == "enumeration"
    assert seen[0] == max(seen) == 4**6
    del seen[:]
    gradient_quality(model, images(), 1100, max_states=0)
    assert max(seen) == 4096


def rows(folder, metric):
    with (folder / "metrics.csv").open() as file:
        return {int(r["step"]): float(r[metric]) for r in csv.DictReader(file) if r.get(metric)}


def test_a_curve_has_a_point_every_so_many_optimizer_steps(tmp_path):
    logger = CSVLogger(tmp_path, name="x")
    probe = GradientProbe(4, batch=4, draws=5, max_states=0, reference_draws=128)
    fit(
        tmp_path,
        lambda: GumbelSoftmax(0.7),
        [probe],
        logger=logger,
        log_every_n_steps=10,
        accumulate_grad_batches=2,
    )
    folder = Path(logger.log_dir)
    for metric in ("variance", "bias_vs_rloo", "relative_bias_vs_rloo", "cosine_vs_rloo"):
        # Lightning counts from 0: the fourth step is 3.
        assert list(rows(folder, f"probe/{metric}")) == [3, 7, 11]


def test_from_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = {"every_n_steps": 2, "batch": 2, "draws": 3, "reference_draws": 128}
    probe = {"class_path": "dvae.callbacks.GradientProbe", "init_args": arguments}
    more = {
        "trainer": {
            "callbacks": [probe],
            "max_steps": 4,
            "limit_val_batches": 1,
            "limit_test_batches": 1,
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
        },
        "model": {"init_args": {"evaluation": {"iwae_samples": 2}}},
    }
    Path("probe.yaml").write_text(yaml.safe_dump(more))
    assert main(["fit", "--config", str(CONFIG), "--config", "probe.yaml"]) == 0, capsys
    folder = tmp_path / "runs" / "mnist_categorical" / "version_0"
    # 10^20 codes cannot be enumerated, and the name says so.
    bias = rows(folder, "probe/bias_vs_rloo")
    assert list(bias) == [1, 3]
    assert bias.keys() <= rows(folder, "anneal/tau").keys()


@pytest.mark.filterwarnings("ignore:Total length of `list`")
def test_without_validation_images_it_says_so_once(tmp_path, caplog):
    trainer = toy_trainer(tmp_path, max_epochs=2, callbacks=[GradientProbe(2)])
    trainer.fit(toy_model(), datamodule=toy_data(val_size=0))
    said = [r.message for r in caplog.records if "GradientProbe" in r.message]
    assert said == ["GradientProbe: there are no validation images, so nothing is measured."]
    assert not any(metric.startswith("probe/") for metric in trainer.callback_metrics)


def test_validation_that_is_switched_off_still_lends_its_images(tmp_path):
    trainer = toy_trainer(
        tmp_path, max_steps=2, limit_val_batches=0, callbacks=[GradientProbe(2, batch=2, draws=2)]
    )
    trainer.fit(toy_model(), datamodule=toy_data())
    assert "probe/bias_vs_enumeration" in trainer.callback_metrics


def test_another_objective_is_named(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dvae")
    trainer = toy_trainer(tmp_path, max_steps=2, callbacks=[GradientProbe(2, batch=2, draws=2)])
    trainer.fit(toy_model(objective=IWAE(2)), datamodule=toy_data())
    assert sum("the objective trained here is IWAE" in r.message for r in caplog.records) == 1
    assert "probe/variance" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("kwargs", "least"),
    [
        ({"every_n_steps": 0}, 1),
        ({"batch": 0}, 1),
        ({"draws": 1}, 2),
        ({"max_states": -1}, 0),
        ({"reference_draws": 127}, 128),
    ],
)
def test_wrong_values_are_refused(kwargs, least):
    key = next(iter(kwargs))
    with pytest.raises(ValueError, match=f"GradientProbe.{key} must be an integer >= {least}"):
        GradientProbe(**kwargs)


def test_a_frozen_encoder_is_refused_before_training(tmp_path):
    model = toy_model()
    model.encoder.requires_grad_(False)
    with pytest.raises(ValueError, match="in the encoder's parameters; all are frozen"):
        toy_trainer(tmp_path, max_steps=1, callbacks=[GradientProbe()]).fit(
            model, datamodule=toy_data()
        )


@pytest.mark.curves
def test_what_is_measured_is_among_the_curves_of_the_run_whenever_it_is_logged(tmp_path):
    probe, curves = GradientProbe(3, batch=2, draws=3), Curves()
    seen = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step % 3 == 0:
                seen.append((trainer.global_step, probe.measured[1]["probe/variance"]))

    trainer, _ = fit(tmp_path, GumbelSoftmax, [probe, Look(), curves], log_every_n_steps=4)
    points = curves.state_dict()["points"]
    assert points["probe/variance"] == seen and len(seen) == trainer.global_step // 3 > 1
    assert len(points["probe/cosine_vs_enumeration"]) == len(seen)
