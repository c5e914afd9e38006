"""Gradients of several batches, and one step, are one step of a batch as large as all of them."""

import pytest
import torch
from torch.testing import assert_close

from dvae.bottlenecks import VQ, DistanceCodebook, ProjectedCodebook, ResidualVQ, Upkeep
from dvae.estimators import MeanField
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from tests.toy import toy_data, toy_trainer

STEPS = 4
# What starts from the first batch, or is revived by it, is another with another batch.
UPKEEP = Upkeep(kmeans=0, revive_after=50)
KINDS = {
    "vq": lambda: VQ(8, 4, decay=0.9, upkeep=UPKEEP),
    "residual": lambda: ResidualVQ(8, 4, 2, decay=0.9, upkeep=UPKEEP),
    "projected": lambda: ProjectedCodebook(8, 4, 4, MeanField(), upkeep=UPKEEP),
    "distance": lambda: DistanceCodebook(8, 4, MeanField(), upkeep=UPKEEP),
}


def train(kind, batches):
    torch.manual_seed(0)
    # No noise, and layers that see one image at a time.
    model = CodebookVAE(
        ResNet((1, 6, 6), width=8, halvings=1, blocks=1),
        KINDS[kind](),
        Gaussian(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
    )
    trainer = toy_trainer(
        None, max_steps=STEPS, accumulate_grad_batches=batches, limit_val_batches=0
    )
    # 192 images, so that no batch is left over at the end of an epoch of the smaller ones.
    data = toy_data(batch_size=48 // batches, val_size=38)
    trainer.fit(model, datamodule=data)
    return model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_averages_and_counts_are_those_of_the_large_batch(kind):
    whole, parts = train(kind, 1), train(kind, 3)
    for name, value in whole.items():
        assert_close(parts[name], value, rtol=1e-4, atol=1e-5, msg=lambda t, n=name: f"{n}: {t}")
