"""Mixed precision: the networks in bfloat16, noise and log-probabilities in float32."""

import pytest
import pytorch_lightning as pl
import torch

from dvae.bottlenecks.base import Bottleneck
from dvae.estimators import GumbelSoftmax, ReinMax, base
from tests.toy import toy_data, toy_model, toy_trainer


@pytest.mark.parametrize("estimator", [GumbelSoftmax, ReinMax])
def test_bfloat16_trains_and_keeps_what_is_summed_in_float32(estimator, tmp_path, monkeypatch):
    noise = []
    draw = torch.rand

    def spy(*args, **kwargs):
        noise.append(kwargs.get("dtype"))
        return draw(*args, **kwargs)

    monkeypatch.setattr(base.torch, "rand", spy)
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
    trainer = toy_trainer(tmp_path, max_steps=20, precision="bf16-mixed")
    trainer.fit(model, datamodule=toy_data())
    assert set(noise) == {torch.float32}
    assert torch.bfloat16 in decoded and set(seen) == {torch.float32}
    assert {term.dtype for term in model.last_terms.values()} == {torch.float32}
    assert all(p.isfinite().all() for p in model.parameters())
    assert trainer.callback_metrics["train/loss"].isfinite()
