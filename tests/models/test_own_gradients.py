"""What an estimator learns by follows the loss: parts of a batch, several samples, clipping."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.testing import assert_close

from dvae.bottlenecks import CategoricalBottleneck
from dvae.estimators import REBAR, RELAX, control_variate
from dvae.models import ELBO, CategoricalVAE
from dvae.networks import MLP
from tests.posteriors import objective_of
from tests.toy import toy_data, toy_trainer

LEARNED = pytest.mark.parametrize("make", [REBAR, lambda: RELAX(3, 3, 8)], ids=["rebar", "relax"])


def noise_of(monkeypatch, rows):
    """Let the next draws of control variates have this noise, one row for each."""
    left = iter(rows)

    def taken(logits, generator=None):
        return torch.stack([next(left) for _ in range(len(logits))])

    monkeypatch.setattr(control_variate, "gumbel_noise_like", taken)


def learned_model(make):
    torch.manual_seed(0)
    # Norms of a batch are others with another batch.
    network = MLP(image_shape=(1, 6, 6), hidden=(16,), norm="none")
    model = CategoricalVAE(network, CategoricalBottleneck(3, 3, make()))
    for parameter in model.bottleneck.estimator.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return model


@LEARNED
@pytest.mark.parametrize("clip", [None, 1e-2])
def test_what_an_estimator_learns_by_is_that_of_the_large_batch(make, clip, monkeypatch):
    found = []

    class Spy(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step:
                found.append({k: p.grad for k, p in pl_module.named_parameters()})

    noise = -torch.empty(64, 3, 3).exponential_().log()
    for batches in (1, 4):
        noise_of(monkeypatch, noise)
        trainer = toy_trainer(
            None,
            max_steps=1,
            accumulate_grad_batches=batches,
            gradient_clip_val=clip,
            limit_val_batches=0,
            callbacks=[Spy()],
        )
        trainer.fit(learned_model(make), datamodule=toy_data(batch_size=64 // batches))
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0
        assert_close(found[1][name], gradient, msg=lambda t, n=name: f"{n}: {t}")


@LEARNED
def test_what_an_estimator_learns_by_is_the_mean_of_several_samples(make, monkeypatch):
    model = learned_model(make)
    image = torch.rand(16, 1, 6, 6)
    noise = -torch.empty(48, 3, 3).exponential_().log()

    def gradients(samples, rows):
        noise_of(monkeypatch, rows)
        features = model.encoder(image)
        out = objective_of(model, image, features, ELBO(samples=samples))
        return torch.autograd.grad(out.loss, list(model.parameters()))

    several = [gradients(1, rows) for rows in noise.split(16)]
    for together, *apart in zip(gradients(3, noise), *several, strict=True):
        assert_close(together, sum(apart) / 3)
