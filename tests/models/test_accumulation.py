"""Gradients of several batches, and one step, are one step of a batch as large as all of them."""

import csv

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from torch.testing import assert_close

from dvae.bottlenecks import (
    VQ,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualVQ,
    Upkeep,
)
from dvae.callbacks import Anneal, Curves
from dvae.estimators import MeanField
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from dvae.schedules import Linear
from tests.toy import toy_data, toy_trainer

STEPS = 4
# What starts from the first batch, or is revived by it, is another with another batch.
UPKEEP = Upkeep(kmeans=0, revive_after=50)
KINDS = {
    "vq": lambda: VQ(8, 4, decay=0.9, upkeep=UPKEEP),
    "residual": lambda: ResidualVQ(8, 4, 2, decay=0.9, upkeep=UPKEEP),
    "diveq": lambda: DiVeQ(8, 4, upkeep=UPKEEP),
    "projected": lambda: ProjectedCodebook(8, 4, 4, MeanField(), upkeep=UPKEEP),
    "product": lambda: ProductCodebook(8, 4, 4, 2, MeanField(), UPKEEP),
    "distance": lambda: DistanceCodebook(8, 4, MeanField(), upkeep=UPKEEP),
}


@pytest.fixture(autouse=True)
def no_noise_of_diveq(monkeypatch):
    # Its draws in between would be others of the pixels' noise, too.
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


def train(kind, batches, lr_schedule=None, **kwargs):
    torch.manual_seed(0)
    # No noise, and layers that see one image at a time.
    model = CodebookVAE(
        ResNet((1, 6, 6), width=8, halvings=1, blocks=1),
        KINDS[kind](),
        Gaussian(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-4),
        lr_schedule=lr_schedule,
    )
    trainer = toy_trainer(
        None,
        accumulate_grad_batches=batches,
        limit_val_batches=0,
        **({"max_steps": STEPS} | kwargs),
    )
    # 192 images: 4 batches of 48 an epoch, and as many steps, or 12 of 16.
    data = toy_data(batch_size=48 if batches == 1 else 16, val_size=38)
    trainer.fit(model, datamodule=data)
    return model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_averages_and_counts_are_those_of_the_large_batch(kind):
    whole, parts = train(kind, 1), train(kind, 3)
    for name, value in whole.items():
        assert_close(parts[name], value, rtol=1e-4, atol=1e-5, msg=lambda t, n=name: f"{n}: {t}")


def rows(folder):
    with (folder / "x" / "version_0" / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


class Losses(Callback):
    """Keep the loss of each batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(outputs["loss"].item())


def logged(folder, batches, every):
    """Train for two epochs; return the rows of the steps and the points of the curves."""
    beta, rate, curves, losses = Linear(2.0, 0.5), Linear(1.0, 0.1), Curves(), Losses()
    train(
        "distance",
        batches,
        rate,
        max_steps=-1,
        max_epochs=2,
        log_every_n_steps=every,
        logger=CSVLogger(folder, name="x"),
        callbacks=[Anneal("beta", beta), curves, losses],
    )
    with (folder / "x" / "version_0" / "metrics.csv").open() as file:
        found = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    found = [row for row in found if "train/loss" in row]
    run = 2 * -(-12 // batches) if batches > 1 else 8
    steps = [step for step in range(run) if (step + 1) % every == 0]
    assert [row["step"] for row in found] == steps
    values = {"anneal/beta": beta, "anneal/lr": lambda s, run: 1e-4 * rate(s, run)}
    for name, schedule in values.items():
        assert [row[name] for row in found] == pytest.approx([schedule(s, run) for s in steps])
    if batches == 1:
        assert [row["train/loss"] for row in found] == pytest.approx(
            [losses.seen[s] for s in steps]
        )
    return found, curves.state_dict()["points"]


@pytest.mark.parametrize("every", [1, 3])
def test_what_is_logged_is_of_the_step_and_of_all_its_batches(tmp_path, every):
    (whole, _), (parts, points) = (logged(tmp_path / str(n), n, every) for n in (1, 3))
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)
    # Curves count the steps taken, rows from 0.
    for name in ("train/kl", "anneal/beta", "anneal/lr"):
        expected = [(int(row["step"]) + 1, pytest.approx(row[name])) for row in parts]
        assert points[name] == expected


def test_a_step_of_fewer_batches_at_the_end_of_an_epoch_is_logged_too(tmp_path):
    logged(tmp_path, 5, 1)
