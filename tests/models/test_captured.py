"""A step that was captured and is replayed trains as the step does that is run."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from dvae.bottlenecks import CategoricalBottleneck, ProjectedCodebook
from dvae.callbacks import Anneal, NonFinite, NonFiniteError, RandomState
from dvae.data import Batch
from dvae.estimators import VIMCO
from dvae.likelihoods import LIKELIHOODS, Bernoulli, OptimalGaussian
from dvae.models import ELBO, IWAE
from dvae.models.captured import WARM_UP, CapturedStep, capture_update, is_steady
from dvae.models.objectives import ObjectiveOutput
from dvae.priors import PRIORS
from dvae.scalars import annealable_scalars
from dvae.schedules import Cosine, Linear
from tests.estimators.catalogue import named
from tests.tape import record
from tests.toy import toy_data, toy_model, toy_trainer

STEPS = WARM_UP + 9


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """Let a tape stand in for the GPU; count what is captured and replayed."""
    said = []

    def counted(work):
        said.append("captured")
        replay = record(work)
        return lambda: said.append("replayed") or replay()

    monkeypatch.setattr("dvae.models.captured.record", counted)
    monkeypatch.setattr("dvae.models.base.check_compile", lambda *given: None)
    return said


def moving(model):
    """Move what scalars of the usual names there are."""
    names = [path.rsplit(".")[-1] for path in annealable_scalars(model)]
    return [Anneal(n, Linear(1.6, 1.1, steps=20)) for n in ("tau", "beta") if names.count(n) == 1]


def trained(folder, make, compile, steps=STEPS, callbacks=(), ckpt=None, data=None, **kwargs):
    pl.seed_everything(3, verbose=False)
    model = make(compile=compile)
    trainer = toy_trainer(
        folder,
        max_steps=steps,
        limit_val_batches=0,
        callbacks=[*moving(model), *callbacks],
        **kwargs,
    )
    trainer.fit(model, data or toy_data(), ckpt_path=ckpt)
    return model, trainer


def assert_close(found, expected, **tolerance):
    found, expected = found.state_dict(), expected.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name, **tolerance)


SAME = {"rtol": 0, "atol": 0}
# Where the rate is a number of the device, with the digits of float32.
ROUNDED = {"rtol": 1e-5, "atol": 1e-6}


def test_a_captured_run_trains_as_one_that_is_run(on_a_cpu, tmp_path):
    make = partial(toy_model, lr_schedule=Cosine(1.0, 0.1))
    given = {"steps": 35, "gradient_clip_val": 0.5}  # three epochs
    found, _ = trained(tmp_path, make, "cuda-graphs", **given)
    expected, _ = trained(tmp_path, make, False, **given)
    assert_close(found, expected, **ROUNDED)
    # The loss with its gradients, and the update, in all steps but the first.
    assert on_a_cpu.count("captured") == 2
    assert on_a_cpu.count("replayed") == 2 * (35 - WARM_UP)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


def assert_trains_the_same(on_a_cpu, folder, make, **given):
    del on_a_cpu[:]
    make = partial(make, optimizer=sgd)
    found, _ = trained(folder, make, "cuda-graphs", **given)
    assert on_a_cpu.count("captured") == 1  # this update is left as it is
    assert on_a_cpu.count("replayed") == STEPS - WARM_UP
    assert_close(found, trained(folder, make, False, **given)[0], **SAME)


@pytest.mark.parametrize("name", named(3, 3) | named(3, 2))
def test_every_estimator_can_be_captured(name, on_a_cpu, tmp_path):
    codes = 3 if name in named(3, 3) else 2

    def make(**given):
        made = named(3, codes)[name]
        return toy_model(made, 3, codes, **given)

    assert_trains_the_same(on_a_cpu, tmp_path, make)


@pytest.mark.parametrize("name", [n for n, kind in LIKELIHOODS.items() if kind.pixels])
def test_every_likelihood_that_keeps_no_count_can_be_captured(name, on_a_cpu, tmp_path):
    kind = LIKELIHOODS[name]
    if kind is OptimalGaussian:
        pytest.skip("it counts")

    def make(**given):
        return toy_model(likelihood=kind(), **given)

    assert_trains_the_same(on_a_cpu, tmp_path, make)


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_can_be_captured(name, on_a_cpu, tmp_path):
    def make(**given):
        return toy_model(prior=PRIORS[name](), **given)

    assert_trains_the_same(on_a_cpu, tmp_path, make)


@pytest.mark.parametrize("objective", [lambda: ELBO(samples=3), lambda: IWAE(3)])
def test_every_objective_can_be_captured(objective, on_a_cpu, tmp_path):
    def make(**given):
        return toy_model(VIMCO(3), objective=objective(), **given)

    assert_trains_the_same(on_a_cpu, tmp_path, make)


def test_what_is_not_the_same_each_time_is_not_captured(on_a_cpu, tmp_path):
    trainer = toy_trainer(tmp_path)
    assert is_steady(trainer, CategoricalBottleneck(3, 3), Bernoulli())
    assert not is_steady(trainer, ProjectedCodebook(8, 4, 4), Bernoulli())
    assert not is_steady(trainer, CategoricalBottleneck(3, 3), OptimalGaussian())
    scaled = toy_trainer(tmp_path)
    scaled.strategy.precision_plugin.scaler = torch.amp.GradScaler("cpu")
    assert not is_steady(scaled, CategoricalBottleneck(3, 3), Bernoulli())


def small_step():
    weight = torch.nn.Parameter(torch.tensor(2.0))
    other = torch.nn.Parameter(torch.tensor(1.0))

    def compute(batch):
        loss = (weight * other * batch.image).sum()
        return ObjectiveOutput(loss, None, None, loss.detach().view(1))

    return CapturedStep(compute, [weight, other]), weight, other


def test_a_batch_of_another_shape_and_other_parameters_are_left_to_the_caller():
    step, weight, other = small_step()
    batch = Batch(torch.tensor([1.0, 2.0]), None)
    for _ in range(WARM_UP):
        assert step(batch) is None and not step.give_gradients()
    assert step(batch).loss == 6 and step.give_gradients() and weight.grad == 3
    assert step(Batch(torch.tensor([5.0, 2.0]), None)).loss == 14
    # What was there before this call is not handed out for it.
    assert step(Batch(torch.tensor([1.0]), None)) is None and not step.give_gradients()
    other.requires_grad_(False)
    assert step(batch) is None and not step.give_gradients()


def test_gradients_that_somebody_took_away_are_not_replayed(on_a_cpu):
    step, weight, other = small_step()
    optimizer = torch.optim.AdamW([weight, other], lr=0.1, fused=True)
    capture_update(optimizer, step)
    batch, state = Batch(torch.ones(1), None), dict(optimizer.param_groups[0])
    for number in range(WARM_UP + 2):
        optimizer.zero_grad()
        if step(batch) is None:
            (weight * other).sum().backward()
        else:
            step.give_gradients()
        if number == WARM_UP + 1:
            weight.grad = other.grad = None
            before = weight.item()
        optimizer.step()
    assert weight.item() == before
    # And no trace of the capture is left where checkpoints look.
    assert optimizer.param_groups[0] == state


def test_what_waits_for_the_device_is_refused_in_a_line(monkeypatch):
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr("dvae.models.captured.record", refuse)
    step, *_ = small_step()
    batch = Batch(torch.ones(1), None)
    for _ in range(WARM_UP):
        step(batch)
    wanted = r"^model\.compile cuda-graphs cannot capture this step \(operation .*\): use true$"
    with pytest.raises(RuntimeError, match=wanted):
        step(batch)


def test_a_captured_run_goes_on_where_it_stopped(tmp_path):
    for given in ({}, {"optimizer": sgd}):
        run = partial(trained, tmp_path, partial(toy_model, **given), "cuda-graphs")
        straight, _ = run(steps=28, callbacks=[RandomState()])
        _, trainer = run(steps=14, callbacks=[RandomState()])
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        rest, _ = run(steps=28, callbacks=[RandomState()], ckpt=tmp_path / "half.ckpt")
        assert_close(rest, straight, **SAME)


def test_a_loss_that_breaks_is_told_of_with_its_step(tmp_path):
    class Broken(pl.Callback):
        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            if trainer.global_step == WARM_UP + 2:
                for parameter in model.decoder.parameters():
                    parameter.data.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=f"step {WARM_UP + 2} .*the loss is not finite"):
        trained(tmp_path, toy_model, "cuda-graphs", callbacks=[Broken(), NonFinite()])
    assert list(tmp_path.rglob(f"nonfinite_step_{WARM_UP + 2}.pt"))
