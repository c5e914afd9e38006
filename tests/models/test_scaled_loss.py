"""A loss that is scaled for float16: the scaler finds its scale, and nobody else sees it."""

import logging
from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.amp import GradScaler

from dvae.bottlenecks import ProjectedCodebook
from dvae.callbacks import NonFinite, NonFiniteError
from dvae.data import MNIST
from dvae.estimators import REBAR
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.networks import ResNet
from dvae.schedules import Linear
from tests.toy import toy_data, toy_model, toy_trainer

OPTIMIZERS = {
    "fused": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "plain": partial(torch.optim.AdamW, lr=1e-3, fused=False),
    "fused sgd": partial(torch.optim.SGD, lr=1e-3, fused=True),
}


def scaled(scale):
    return MixedPrecision("16-mixed", "cpu", GradScaler("cpu", init_scale=scale))


def codebook():
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    return CodebookVAE(network, ProjectedCodebook(8, 4, 4))


class Spy(Callback):
    """Keep the gradients that callbacks see before the first step, and those that it takes."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.named_parameters()
        self.seen = {k: p.grad.clone() for k, p in named if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, *_):
        named = pl_module.named_parameters()
        self.taken = {k: p.grad.clone() for k, p in named if p.grad is not None}


def step(model, plugin=None, batch_size=16, **kwargs):
    spy = Spy()
    plugins = [] if plugin is None else [plugin]
    trainer = toy_trainer(
        None, max_steps=1, limit_val_batches=0, plugins=plugins, callbacks=[spy], **kwargs
    )
    torch.manual_seed(1)
    trainer.fit(model, datamodule=toy_data(batch_size=batch_size))
    return spy


def norm(gradients):
    return torch.nn.utils.get_total_norm(gradients.values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gradients_are_looked_at_without_the_scale(optimizer):
    def model():
        torch.manual_seed(0)
        return toy_model(REBAR(), optimizer=OPTIMIZERS[optimizer])

    expected = step(model()).seen
    for scale in (1.0, 2.0**7):
        found = step(model(), scaled(scale)).seen
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 0.02 * gradient.norm(), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("plugin", [None, 2.0**7])
def test_a_clipped_norm_is_that_of_the_model_and_that_of_the_estimator(optimizer, plugin):
    torch.manual_seed(0)
    model = toy_model(REBAR(), optimizer=OPTIMIZERS[optimizer])
    plugin = plugin and scaled(plugin)
    spy = step(model, plugin, gradient_clip_val=1e-2)
    for own in (True, False):
        seen, taken = (
            {k: g for k, g in found.items() if ("estimator" in k) == own}
            for found in (spy.seen, spy.taken)
        )
        assert norm(seen) > 10 * 1e-2  # so that clipping is seen
        factor = 1e-2 / norm(seen)
        for name, gradient in taken.items():
            torch.testing.assert_close(gradient, factor * seen[name], msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_value_is_clipped_without_the_scale(optimizer):
    model = toy_model(REBAR(), optimizer=OPTIMIZERS[optimizer])
    spy = step(model, scaled(2.0**7), gradient_clip_val=0.1, gradient_clip_algorithm="value")
    for name, gradient in spy.taken.items():
        assert torch.equal(gradient, spy.seen[name].clamp(-0.1, 0.1)), name


def test_an_overflow_leaves_the_step_out_and_a_fused_optimizer_too():
    model = toy_model(optimizer=OPTIMIZERS["fused"])
    before = {k: v.clone() for k, v in model.named_parameters()}
    step(model, scaled(2.0**40))
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_first_step_left_out_counts_for_the_learning_rate_without_a_warning(optimizer):
    model = toy_model(optimizer=OPTIMIZERS[optimizer], lr_schedule=Linear(1.0, 0.5, 10))
    trainer = toy_trainer(None, max_steps=5, plugins=[scaled(2.0**40)])
    trainer.fit(model, datamodule=toy_data())
    (group,) = trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(1e-3 * model.lr_schedule(5, None))


@pytest.mark.parametrize("action", ["stop", "skip"])
@pytest.mark.parametrize("make", [toy_model, codebook])
def test_the_scaler_finds_its_scale_and_nothing_is_said(make, action, tmp_path, caplog):
    torch.manual_seed(0)
    model, plugin = make(), scaled(2.0**24)
    trainer = toy_trainer(
        tmp_path, max_steps=20, plugins=[plugin], callbacks=[NonFinite(action)], max_epochs=2
    )
    before = {k: v.clone() for k, v in model.named_parameters()}
    with caplog.at_level(logging.WARNING, "dvae"):
        trainer.fit(model, datamodule=toy_data())
    assert 1 <= plugin.scaler.get_scale() < 2.0**24
    assert trainer.global_step == 20
    assert not [r for r in caplog.records if r.name == "dvae"]
    assert not list(tmp_path.glob("nonfinite*"))
    for name, value in model.named_parameters():
        assert value.isfinite().all(), name
        assert not value.requires_grad or not torch.equal(value, before[name]), name


class Scales(Callback):
    """Keep the scale of each step, and whether a step moved a weight."""

    def __init__(self):
        self.seen, self.moved = [], []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.before = [p.clone() for p in pl_module.decoder.parameters()]
        self.seen.append(trainer.precision_plugin.scaler.get_scale())

    def on_train_batch_end(self, trainer, pl_module, *_):
        pairs = zip(self.before, pl_module.decoder.parameters(), strict=True)
        self.moved.append(not all(torch.equal(a, b) for a, b in pairs))


def digits():
    """Build a model of 28x28 pixels, whose gradients are as large as in a real training."""
    network = ResNet((1, 28, 28), width=8, halvings=2, blocks=1)
    return CodebookVAE(network, ProjectedCodebook(8, 4, 4))


@pytest.mark.parametrize(
    ("make", "data"),
    [(toy_model, toy_data), (codebook, toy_data), (digits, partial(MNIST, batch_size=16))],
)
def test_with_the_scale_that_torch_starts_from_no_step_is_left_out(make, data):
    torch.manual_seed(0)
    model, spy = make(), Scales()
    trainer = toy_trainer(
        None,
        max_steps=6,
        plugins=[MixedPrecision("16-mixed", "cpu", GradScaler("cpu"))],
        callbacks=[spy],
    )
    trainer.fit(model, datamodule=data())
    assert spy.moved == [True] * 6 and len(set(spy.seen)) == 1


def test_a_scale_that_was_given_or_found_is_kept(tmp_path):
    spy = Scales()
    trainer = toy_trainer(tmp_path, max_steps=2, plugins=[scaled(2.0**5)], callbacks=[spy])
    trainer.fit(toy_model(), datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu"))
    trainer = toy_trainer(tmp_path, max_steps=4, plugins=[plugin], callbacks=[spy])
    trainer.fit(toy_model(), datamodule=toy_data(), ckpt_path=tmp_path / "half.ckpt")
    assert spy.seen == [2.0**5] * 4


class Biased(CategoricalVAE):
    bias = 0.0

    def log_px(self, code, image):
        return super().log_px(code, image) + self.bias


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_what_stays_broken_is_named_when_the_scale_cannot_fall_further(action, tmp_path):
    model = toy_model()
    next(model.encoder.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    trainer = toy_trainer(
        tmp_path, max_steps=60, plugins=[scaled(1.0)], callbacks=[NonFinite(action)]
    )
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(model, datamodule=toy_data())
    text = str(caught.value)
    # 14 halvings to 2^-14, the least normal number of float16, and one more.
    assert text.startswith("step 15 (") and "the scale of the loss cannot fall further" in text
    assert "broke first: the gradient of encoder." in text and "skip" not in text


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_a_loss_that_is_no_number_is_judged_as_ever(action, tmp_path, caplog):
    class Break(Callback):
        def on_train_batch_start(self, trainer, pl_module, *_):
            pl_module.bias = torch.nan if trainer.global_step == 3 else 0.0

    model = toy_model()
    model.__class__ = Biased
    callbacks = [Break(), NonFinite(action)]
    trainer = toy_trainer(tmp_path, max_steps=6, plugins=[scaled(2.0**7)], callbacks=callbacks)
    if action == "stop":
        with pytest.raises(NonFiniteError, match=r"^step 3 \(.*the loss is not finite"):
            trainer.fit(model, datamodule=toy_data())
        return
    trainer.fit(model, datamodule=toy_data())
    assert caplog.text.count("the step is left out") == 1 and trainer.global_step == 6
    assert all(p.isfinite().all() for p in model.parameters())
