"""Mixed precision: the networks in half precision, noise and log-probabilities in float32."""

import warnings
from copy import deepcopy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.amp import GradScaler

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    DistanceCodebook,
    DiVeQ,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
)
from dvae.bottlenecks.base import Bottleneck
from dvae.estimators import RLOO, VIMCO, GumbelSoftmax, MeanField, ReinMax
from dvae.estimators import noise as noise_of_draws
from dvae.likelihoods import DiscretizedLogisticMixture, LearnedGaussian
from dvae.models import IWAE, CodebookVAE
from dvae.networks import ResNet
from dvae.priors import CategoricalPrior
from tests.estimators.catalogue import named
from tests.toy import toy_data, toy_model, toy_trainer

NATIVE = {"architecture": "x86_64", "avx512_bf16": True}


# On a CPU Lightning replaces 16-mixed by bf16-mixed, unless its plugin is named: the casts and the
# scaled loss of a GPU.
HALF = {
    torch.bfloat16: {"precision": "bf16-mixed"},
    torch.float16: {"plugins": [MixedPrecision("16-mixed", "cpu")]},
}


@pytest.mark.parametrize("half", HALF, ids=str)
@pytest.mark.parametrize("estimator", [GumbelSoftmax, ReinMax])
def test_half_precision_trains_and_keeps_what_is_summed_in_float32(
    estimator, half, tmp_path, monkeypatch
):
    noise = []
    draw = noise_of_draws.exponential_noise

    def spy(*args):
        drawn = draw(*args)
        noise.append(drawn.dtype)
        return drawn

    monkeypatch.setattr(noise_of_draws, "exponential_noise", spy)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    pl.seed_everything(0)
    model = toy_model(estimator(1.0))
    assert isinstance(model.bottleneck, Bottleneck)
    seen, decoded = [], []
    log_prob = model.likelihood._log_prob

    def watched(params, x):
        seen.append(params.dtype)
        return log_prob(params, x)

    model.likelihood._log_prob = watched
    model.decoder.register_forward_hook(lambda module, args, out: decoded.append(out.dtype))
    trainer = toy_trainer(tmp_path, max_steps=20, **HALF[half])
    trainer.fit(model, datamodule=toy_data())
    assert set(noise) == {torch.float32}
    assert half in decoded and set(seen) == {torch.float32}
    assert {term.dtype for term in model.last_terms.values()} == {torch.float32}
    assert all(p.isfinite().all() for p in model.parameters())
    assert trainer.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize(
    ("found", "precision", "slow"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False}, "bf16-mixed", True),
        ({"architecture": "x86_64", "avx512_bf16": False}, "32-true", False),
        (NATIVE, "bf16-mixed", False),
        ({"architecture": "aarch64"}, "bf16-mixed", False),
    ],
)
def test_bfloat16_without_instructions_for_it_is_warned_of(
    found, precision, slow, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    trainer = toy_trainer(tmp_path, max_steps=1, precision=precision)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.fit(toy_model(GumbelSoftmax(1.0)), datamodule=toy_data())
    assert sum("no bfloat16 instructions" in str(w.message) for w in seen) == slow


class InFull(nn.Module):
    """A network that computes in float32 whatever is around it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x.float())


def codebook(make, *size, optimizer=None, prior=None, **kwargs):
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    bottleneck = make(*(size or (8, 4)), **kwargs)
    return CodebookVAE(network, bottleneck, optimizer=optimizer, prior=prior and prior())


def fresh(estimator, **kwargs):
    return toy_model(deepcopy(estimator), **kwargs)


PROJECTED = partial(codebook, ProjectedCodebook, in_features=4)
MODELS = {
    **{name: partial(fresh, e, codes=2) for name, e in named(3, 2).items()},
    **{name: partial(fresh, e) for name, e in named(3, 3).items()},  # all but the binary ones
    "IWAE": partial(toy_model, objective=IWAE(3)),
    "IWAE-VIMCO": partial(fresh, VIMCO(), objective=IWAE(3)),
    "projected": PROJECTED,
    "blocked": partial(PROJECTED, kernel="blocked"),
    "soft": partial(PROJECTED, estimator=MeanField()),
    "prior": partial(PROJECTED, prior=CategoricalPrior),
    "distance": partial(codebook, DistanceCodebook, estimator=RLOO(2)),
    "residual code": partial(codebook, ResidualCodebook),
    "vq": partial(codebook, VQ),
    "rotation": partial(codebook, RotationVQ),
    "diveq": partial(codebook, DiVeQ),
    "simvq": partial(codebook, SimVQ),
    "lfq": partial(codebook, LFQ),
    "fsq": partial(codebook, FSQ, (3, 3), 4),
    "residual": partial(codebook, ResidualVQ, 8, 4, 2),
    "learned": partial(toy_model, likelihood=LearnedGaussian()),
    "mixture": partial(toy_model, likelihood=DiscretizedLogisticMixture(2)),
}
SCALED = ("RELAX", "projected", "vq", "diveq")


def measured(make, **kwargs):
    """Return the metrics and gradients of a step, a validation and a test, all from one seed."""
    pl.seed_everything(0, verbose=False)
    model, gradients = make(optimizer=partial(torch.optim.SGD, lr=0.0)), {}
    model.encoder, model.decoder = InFull(model.encoder), InFull(model.decoder)

    class Spy(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            named = pl_module.named_parameters()
            gradients.update({k: p.grad.clone() for k, p in named if p.grad is not None})

    limits = {"max_steps": 1, "limit_val_batches": 1, "limit_test_batches": 1}
    trainer = toy_trainer(None, callbacks=[Spy()], **limits, **kwargs)
    trainer.fit(model, datamodule=toy_data())
    metrics = dict(trainer.callback_metrics)
    metrics |= trainer.test(model, datamodule=toy_data(), verbose=False)[0]
    return metrics, gradients


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_changes_the_networks_and_nothing_else(name, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    expected = measured(MODELS[name])
    found = measured(MODELS[name], precision="bf16-mixed")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    if name in SCALED:
        scaler = GradScaler("cpu", init_scale=2.0**8)
        found = measured(MODELS[name], plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true"])
@pytest.mark.parametrize("task", ["fit", "validate", "test", "predict"])
def test_weights_that_are_not_in_float32_are_refused_before_anything_is_computed(precision, task):
    trainer = toy_trainer(None, max_steps=1, precision=precision)
    with pytest.raises(ValueError, match=f"^trainer.precision must be one of .*; got {precision}$"):
        getattr(trainer, task)(toy_model(), datamodule=toy_data())
