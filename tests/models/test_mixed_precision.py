"""Mixed precision: the networks in half precision, noise and log-probabilities in float32."""

import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from dvae.bottlenecks.base import Bottleneck
from dvae.estimators import GumbelSoftmax, ReinMax, base
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
    transform = base.exponential_from_uniform

    def spy(uniform):
        noise.append(uniform.dtype)
        return transform(uniform)

    monkeypatch.setattr(base, "exponential_from_uniform", spy)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NATIVE)
    pl.seed_everything(0)
    model = toy_model(estimator(1.0))
    assert isinstance(model.bottleneck, Bottleneck)
    seen, decoded = [], []
    log_prob = model.likelihood.log_prob

    def watched(params, x):
        seen.append(params.dtype)
        return log_prob(params, x)

    model.likelihood.log_prob = watched
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
