"""The tuner finds the temperature of the least error, and leaves no other trace in a training."""

import csv
import logging
import math

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger

from dvae.bottlenecks import ProjectedCodebook, ResidualCodebook
from dvae.callbacks import Anneal, RandomState
from dvae.callbacks.tuner_choice import choice
from dvae.cli import main
from dvae.data import Batch
from dvae.estimators import (
    DecoupledGumbelSoftmax,
    GumbelSoftmax,
    ReinMax,
    StraightThrough,
)
from dvae.estimators.temperatures import GradientMoments
from dvae.lab import measure
from dvae.lab.problem import vae_problem
from dvae.models import ELBO, IWAE, CodebookVAE, PriorLikelihood
from dvae.networks import ResNet
from dvae.priors import AutoregressivePrior, CategoricalPrior
from dvae.schedules import Constant, Cosine, Linear, Sequential, Tuned
from tests.toy import toy_data, toy_model, toy_trainer
from tests.watched import BASE


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("dvae.callbacks.anneal.are_due", lambda *_: False)


def trained(estimator, decoder=4.0):
    """Return a model whose posteriors are not uniform and whose decoder looks at the code."""
    torch.manual_seed(0)
    model = toy_model(estimator, latents=2)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(8)
        model.decoder[0].weight.mul_(decoder)
    return model


def images(count=32):
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def tuner_of(model, settings=None, name="tau"):
    anneal = Anneal(name, Tuned() if settings is None else settings)
    anneal.setup(None, model, "fit")
    return anneal.tuner


def run_of(tuner, model, measurements, image=None, rate=1e-3):
    batch = Batch(images() if image is None else image, None)
    for number in range(measurements):
        tau = tuner.step(model, batch, number * tuner.settings.every, 0, rate)
    return tau


def fit(tmp_path, anneal, steps=30, ckpt_path=None, estimator=None, **kwargs):
    torch.manual_seed(0)
    model = toy_model(estimator or GumbelSoftmax(0.7, hard=True))
    callbacks = [RandomState(), *([anneal] if anneal else [])]
    trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=callbacks, **kwargs)
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    trainer.fit(model, datamodule=toy_data(binarization="dynamic"), ckpt_path=ckpt_path)
    return trainer, model


def same_weights(a, b):
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


@pytest.mark.parametrize(
    "estimator",
    [StraightThrough(0.9), GumbelSoftmax(0.9, hard=True), GumbelSoftmax(0.9)],
    ids=["straight-through", "hard", "relaxed"],
)
def test_the_choice_is_where_the_exact_bias_is_the_exact_noise(estimator):
    # As the decoder is at the start: the reference is exact up to the second order of it.
    model = trained(estimator, decoder=1.0)
    tuner = tuner_of(model)
    tau = run_of(tuner, model, 60, images(640))
    problem = vae_problem(model, images(640)[: math.ceil(640 / tuner.share)], "")
    bias2, noise = [], []
    for at in tuner.taus:
        estimator.tau.fill_(at)
        # Against the enumerated gradient; squares are averaged over the examples.
        lab = measure(estimator, problem.f, problem.logits, 200)
        bias2.append(lab.bias_squared)
        noise.append(lab.variance / tuner.settings.n_eff)
    best = choice(tuner.taus, bias2, noise)
    assert tuner.taus[0] < best < tuner.taus[-1]  # there is something to choose
    assert abs(math.log(tuner.best_tau / best)) < math.log(2) / 2
    # 60 moves of a fiftieth leave 0.3 of the way.
    assert abs(math.log(tau / tuner.best_tau)) < 0.5 * abs(math.log(0.9 / tuner.best_tau))


def test_the_choice_is_where_bias_and_noise_cross():
    taus = Tuned().grid()
    ones, zeros = [1.0] * 9, [0.0] * 9
    for best in (0.4, 0.7, 1.3):
        rising = [1 + math.log(tau / best) for tau in taus]
        assert choice(taus, rising, ones) == pytest.approx(best)
    assert choice(taus, zeros, ones) == taus[-1]
    # Noise at low temperatures, where there is most of it, does not hide what is above.
    assert choice(taus, [1.0, -1.0, 2.0, *[-1.0] * 6], zeros) == taus[-1]
    # Bias everywhere: the least error, between the temperatures of the grid.
    for best in (0.4, 0.7, 1.3):
        valley = [1 + math.log(tau / best) ** 2 for tau in taus]
        assert choice(taus, valley, zeros) == pytest.approx(best)
    assert choice(taus, [float(at) for at in range(1, 10)], zeros) == taus[0]


def test_n_grows_as_the_learning_rate_falls():
    model = trained(GumbelSoftmax(0.9, hard=True))
    tuner = tuner_of(model)
    run_of(tuner, model, 20, rate=0.0)
    found = {}
    for rate in (0.0, 1e-3, 2e-3, 1e-3, 2e-5, 0.0):
        run_of(tuner, model, 1, rate=rate)
        found[rate] = tuner.n, tuner.best_tau
    assert found[2e-3][0] == 20 and found[1e-3][0] == 40 and found[2e-5][0] == 2000
    assert found[0.0][0] == 20_000
    assert found[2e-3][1] >= found[1e-3][1] >= found[2e-5][1] < found[2e-3][1]
    again = tuner_of(model)
    again.load_state_dict(tuner.state_dict())
    assert (again.n, again.best_tau) == (tuner.n, tuner.best_tau)


def test_it_waits_until_the_learning_rate_is_at_its_highest():
    model = trained(GumbelSoftmax(0.9, hard=True), decoder=1.0)
    tuner, batch = tuner_of(model), Batch(images(640), None)
    taus = [
        tuner.step(model, batch, 20 * number, 0, 1e-3 * min(number, 20) / 20)
        for number in range(41)
    ]
    # The 22nd rate is the first that is no higher than the one before.
    assert taus[:21] == [pytest.approx(0.9)] * 21 and len(set(taus[20:])) == 21
    # Where it does not rise there is nothing to wait for.
    assert run_of(tuner_of(model), model, 21, images(640)) != pytest.approx(0.9)


def test_a_state_of_other_measurements_leaves_where_it_was():
    model = trained(GumbelSoftmax(0.9, hard=True), decoder=1.0)
    tuner = tuner_of(model)
    run_of(tuner, model, 21, images(640))
    run_of(tuner, model, 1, images(640), rate=5e-4)
    state = tuner.state_dict()
    for changed in ({"taus": state["taus"][1:]}, {"noise": state["noise"][:9]}):
        again = tuner_of(model)
        again.load_state_dict(state | changed)
        assert again.tau == tuner.tau != 0.9 and again.n == tuner.n == 40
        assert not again.history and again.seconds == 0


def test_it_waits_where_there_is_nothing_but_noise():
    model = trained(StraightThrough(0.9))
    with torch.no_grad():
        model.decoder[0].weight.zero_()  # the decoder looks at no code
    tuner = tuner_of(model)
    assert run_of(tuner, model, 10) == pytest.approx(0.9)


@pytest.mark.parametrize("estimator", [StraightThrough(0.9), GumbelSoftmax(0.9)])
def test_it_waits_where_the_gradients_have_no_mean(monkeypatch, estimator):
    model = trained(estimator)
    # Its own generator: the global one stands still over a measurement, so all would see the same.
    noise = torch.Generator().manual_seed(3)

    def log_px(z, _):
        return (z * torch.randn(z.shape, generator=noise)).sum((-2, -1))

    monkeypatch.setattr(model, "log_px", log_px)
    tuner = tuner_of(model)
    assert run_of(tuner, model, 60, images(320)) == pytest.approx(0.9)
    assert tuner.averages.variance.min() > 0.01


def test_of_one_image_at_a_time_nothing_is_clear_of_noise(monkeypatch):
    model = trained(StraightThrough(0.9))
    noise = torch.Generator().manual_seed(3)

    def log_px(z, _):
        return (z * torch.randn(z.shape, generator=noise)).sum((-2, -1))

    monkeypatch.setattr(model, "log_px", log_px)
    assert run_of(tuner_of(model), model, 60, images(1)) == pytest.approx(0.9)


def test_a_measurement_that_is_not_finite_is_left_out(monkeypatch):
    model = trained(GumbelSoftmax(0.9, hard=True))
    tuner, spoilt = tuner_of(model), tuner_of(model)
    batch, log_px = Batch(images(), None), model.log_px
    assert tuner.metrics() == {}
    monkeypatch.setattr(model, "log_px", lambda *args: log_px(*args) * math.nan)
    assert spoilt.step(model, batch, 0, 0, 1e-3) == pytest.approx(0.9)
    assert spoilt.metrics() == {} and not spoilt.history
    monkeypatch.undo()
    for one in (tuner, spoilt):
        one.step(model, batch, 20, 0, 1e-3)
    assert spoilt.history == tuner.history and math.isfinite(spoilt.metrics()["tuner/best_tau"])


def test_of_m_draws_a_step_follows_the_mean():
    found = []
    for samples, n_eff in ((10, 20.0), (1, 200.0)):
        torch.manual_seed(0)
        model = toy_model(GumbelSoftmax(0.9, hard=True), objective=ELBO(samples=samples))
        tuner = tuner_of(model, Tuned(n_eff=n_eff))
        run_of(tuner, model, 5)
        found.append((tuner.n, tuner.best_tau))
    assert found[0] == found[1] and found[0][0] == 200


def test_the_labels_are_those_of_the_images_that_are_measured(tmp_path, no_pictures):
    prior = AutoregressivePrior(width=8, depth=1, heads=2, num_classes=6)
    anneal = Anneal("tau", Tuned(every=1))
    model = toy_model(GumbelSoftmax(0.7, hard=True), prior=prior)
    toy_trainer(tmp_path, max_steps=2, callbacks=[anneal]).fit(model, toy_data())
    assert len(anneal.tuner.history) == 2


def test_a_second_model_has_a_tuner_of_its_own(tmp_path, no_pictures):
    anneal = Anneal("tau", Tuned(every=1))
    for estimator in (GumbelSoftmax(0.5, hard=True), ReinMax(1.3)):
        trainer = toy_trainer(tmp_path, max_steps=1, callbacks=[anneal])
        trainer.fit(model := toy_model(estimator), toy_data())
    assert anneal.tuner.taus[0] == 1 and model.bottleneck.estimator.tau == pytest.approx(1.3)


def test_it_goes_down_where_bias_is_clear_and_up_where_the_projection_is():
    tuner = tuner_of(trained(StraightThrough(0.9)))
    along = torch.tensor([[1.1, 0.9]]).expand(9, 2)
    for _ in range(3):
        # Orthogonal to the reference, and known.
        tuner._add(GradientMoments(along, along, 0 * along, 0 * along[0]))
    assert tuner.is_clear(0.5) and not tuner.is_clear(2.0)
    tuner = tuner_of(trained(StraightThrough(0.9)))
    for _ in range(3):
        tuner._add(GradientMoments(along, along, along, along[0]))
    assert tuner.is_clear(2.0) and not tuner.is_clear(0.5)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("estimator", [lambda: GumbelSoftmax(0.7), lambda: ReinMax(1.2)])
def test_measuring_alone_changes_no_bit(tmp_path, estimator):
    schedule = Cosine(2.0, 1.0)
    watching = Anneal("tau", Tuned(every=3, follow=schedule))
    plain = fit(tmp_path / "a", Anneal("tau", schedule), estimator=estimator())
    ends = torch.get_rng_state()
    watched = fit(tmp_path / "b", watching, estimator=estimator())
    assert torch.equal(torch.get_rng_state(), ends)
    assert same_weights(plain[1], watched[1])
    assert len(watching.tuner.history) == 10
    held = Anneal("tau", Tuned(every=3), "hold")
    assert same_weights(
        fit(tmp_path / "c", held, estimator=estimator())[1],
        fit(tmp_path / "d", None, estimator=estimator())[1],
    )


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("stop", "accumulate"), [(7, 1), (9, 1), (9, 2)])
def test_a_resumed_run_chooses_the_same(tmp_path, stop, accumulate):
    kinds = {"accumulate_grad_batches": accumulate}
    whole, first, second = (Anneal("tau", Tuned(every=3)) for _ in range(3))
    _, expected = fit(tmp_path / "a", whole, **kinds)
    fit(tmp_path / "b", first, stop, **kinds)[0].save_checkpoint(tmp_path / "stop.ckpt")
    _, resumed = fit(tmp_path / "c", second, ckpt_path=tmp_path / "stop.ckpt", **kinds)
    assert second.tuner.history == whole.tuner.history
    assert len(whole.tuner.history) == 10
    assert second.tuner.tau == whole.tuner.tau != 0.7
    assert same_weights(expected, resumed)


@pytest.mark.usefixtures("no_pictures")
def test_a_learning_rate_may_be_a_tensor(tmp_path):
    def optimizer(parameters):
        return torch.optim.Adam(parameters, torch.tensor(1e-3), fused=True)

    anneal = Anneal("tau", Tuned(every=3))
    trainer = toy_trainer(tmp_path, max_steps=6, callbacks=[anneal])
    trainer.fit(toy_model(GumbelSoftmax(0.7, hard=True), optimizer=optimizer), toy_data())
    state = anneal.tuner.state_dict()
    assert type(state["rate"]) is float and state["rate"] == pytest.approx(1e-3)


@pytest.mark.usefixtures("no_pictures")
def test_one_that_did_not_measure_goes_on(tmp_path):
    fit(tmp_path / "a", Anneal("tau", Constant(0.6)), 9)[0].save_checkpoint(tmp_path / "a.ckpt")
    tuned = Anneal("tau", Tuned(every=3))
    fit(tmp_path / "b", tuned, ckpt_path=tmp_path / "a.ckpt")[0].save_checkpoint(
        tmp_path / "b.ckpt"
    )
    assert tuned.tuner.history[0][0] == 9
    _, model = fit(tmp_path / "c", Anneal("tau", Constant(0.5)), 33, tmp_path / "b.ckpt")
    assert float(model.bottleneck.estimator.tau) == 0.5


def test_what_is_logged_and_drawn(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    anneal = Anneal("tau", Tuned(every=2))
    fit(tmp_path, anneal, logger=logger)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["tuner/best_tau"]]
    assert [int(row["step"]) for row in rows] == list(range(30))
    assert {"tuner/bias2", "tuner/variance", "tuner/seconds"} <= rows[0].keys()
    assert {f"tuner/error_{tau:.3g}" for tau in anneal.tuner.taus} <= rows[0].keys()
    assert float(rows[-1]["tuner/best_tau"]) == pytest.approx(anneal.tuner.best_tau)
    # Three epochs of 11 steps, the last cut short.
    drawn = sorted(path.name for path in (tmp_path / "media" / "tuner").iterdir())
    assert drawn == ["step_0000011.png", "step_0000022.png", "step_0000030.png"]


def test_two_temperatures_are_tuned_beside_each_other(tmp_path):
    model = trained(DecoupledGumbelSoftmax())
    one, two = (tuner_of(model, name=f"tau_{side}") for side in ("forward", "backward"))
    for tuner in (one, two):
        run_of(tuner, model, 3)
    assert not one.metrics().keys() & two.metrics().keys()


def test_the_history_has_an_end(monkeypatch):
    monkeypatch.setattr("dvae.callbacks.tuner._SHOWN", 10)
    model = trained(StraightThrough())
    tuner = tuner_of(model, Tuned(every=1))
    run_of(tuner, model, 24)
    assert [row[0] for row in tuner.history] == list(range(0, 24, 4))


def test_a_codebook_and_another_objective_are_measured(caplog):
    torch.manual_seed(0)
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    bottleneck = ProjectedCodebook(8, 4, 4, GumbelSoftmax(0.8, hard=True))
    model = CodebookVAE(network, bottleneck, objective=IWAE(2))
    with caplog.at_level(logging.INFO, "dvae"):
        tuner = tuner_of(model)
    assert "the objective trained here is IWAE" in caplog.text
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_of(tuner, model, 3)
    assert all(math.isfinite(value) for value in tuner.metrics().values())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("target", "kwargs", "message"),
    [
        ("beta", {}, "move that by a schedule"),
        ("gap", {}, "no scalar has that name"),
        (
            "tau",
            {"objective": PriorLikelihood(), "prior": CategoricalPrior()},
            "PriorLikelihood trains the prior alone",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_line(tmp_path, target, kwargs, message):
    with pytest.raises(ValueError, match=message):
        Anneal(target, Tuned()).setup(None, toy_model(**kwargs), "fit")


def test_levels_that_are_drawn_one_after_the_other_are_refused_in_a_line():
    codebook = ResidualCodebook(8, 4, 2, GumbelSoftmax(0.8, hard=True))
    model = CodebookVAE(ResNet((1, 6, 6), width=8, halvings=1, blocks=1), codebook)
    with pytest.raises(ValueError, match="cannot measure a ResidualCodebook"):
        Anneal("tau", Tuned()).setup(None, model, "fit")


def test_it_is_no_part_of_a_schedule():
    with pytest.raises((AttributeError, ValueError)):
        Sequential([Linear(1.0, 0.5, 10), Tuned()])(20, 100)


def test_values_outside_their_range_are_refused():
    other = {"follow": {"class": "Cosine"}}
    for settings in ({"low": 0.0}, {"low": 2.0}, {"every": 0}, {"n_eff": 0.0}, other):
        with pytest.raises(ValueError, match="Tuned"):
            Tuned(**settings)
    with pytest.raises(ValueError, match="twice the estimator's lowest temperature"):
        Tuned(high=1.5).grid(1.0)
    assert Tuned().grid(1.0) == pytest.approx([2 ** (at / 2) for at in range(5)])


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--model.bottleneck.estimator=MeanField"], "MeanField has none"),
        (["--model.bottleneck.estimator=DecoupledGumbelSoftmax"], "has tau_backward and tau_forw"),
        (["--anneal.beta=Tuned"], "no Schedule called 'Tuned'"),
    ],
)
def test_the_command_line_says_why_not_in_a_line(
    tmp_path, monkeypatch, caplog, capsys, flags, what
):
    monkeypatch.chdir(tmp_path)
    code = main(["fit", *BASE, "--anneal.tau=Tuned", *flags])
    said = caplog.text + capsys.readouterr().err
    lines = [line for line in said.splitlines() if what in line]
    assert len(lines) == 1 and code == (2 if "Tuned" in what else 0)


def test_the_command_line_tunes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--model.bottleneck.estimator.hard=true", "--anneal.tau.every=2"]
    assert main(["fit", *BASE, "--anneal.tau=Tuned", *flags]) == 0
    assert list(tmp_path.rglob("media/tuner/step_0000004.png"))
