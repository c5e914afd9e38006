"""Laws of the code-book model, with each kind of bottleneck."""

import math
from contextlib import nullcontext

import pytest
import torch
from torchmetrics.image import PeakSignalNoiseRatio

from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.callbacks import RandomState
from dvae.estimators import GumbelSoftmax
from dvae.likelihoods import DiscretizedLogisticMixture, Gaussian
from dvae.metrics import ImageQuality
from dvae.models import IWAE, CodebookVAE
from dvae.networks import MLP, ResNet
from tests.posteriors import uniform
from tests.toy import toy_data, toy_trainer

SMALL = {"num_codes": 6, "code_dim": 4}
# Within the 14 steps of the test of resuming.
REVIVED = Upkeep(revive_after=4)
BOTTLENECKS = {
    "projected": lambda: ProjectedCodebook(**SMALL, in_features=4, upkeep=REVIVED),
    "product": lambda: ProductCodebook(**SMALL, in_features=4, upkeep=REVIVED),
    "vq": lambda: VQ(**SMALL, decay=0.8),
    "rotation": lambda: RotationVQ(**SMALL, decay=0.8, upkeep=Upkeep(kmeans=0, revive_after=4)),
    "diveq": lambda: DiVeQ(**SMALL, upkeep=REVIVED),
    "simvq": lambda: SimVQ(**SMALL),
    "fsq": lambda: FSQ([3, 3], 4),
    "lfq": lambda: LFQ(8, 4),
    "residual": lambda: ResidualVQ(**SMALL, depth=2, decay=0.8, upkeep=REVIVED),
    "distance": lambda: DistanceCodebook(**SMALL, upkeep=REVIVED),
    "residual code": lambda: ResidualCodebook(**SMALL, upkeep=REVIVED),
}


def make(kind="projected", likelihood=None, size=6, **kwargs):
    torch.manual_seed(0)
    return CodebookVAE(
        network=ResNet((1, size, size), width=8, halvings=1, blocks=1),
        bottleneck=BOTTLENECKS[kind](),
        likelihood=Gaussian(0.2) if likelihood is None else likelihood,
        **kwargs,
    )


bottlenecks = pytest.mark.parametrize("kind", BOTTLENECKS)
WITHOUT = {
    "vq without": lambda: VQ(**SMALL, commitment=0.0),
    "rotation without": lambda: RotationVQ(**SMALL, commitment=0.0),
    "lfq without": lambda: LFQ(8, 4, entropy=0.0),
    "residual without": lambda: ResidualVQ(**SMALL, depth=2, commitment=0.0),
    "distance without": lambda: DistanceCodebook(**SMALL, commitment=0.0),
}


@pytest.mark.parametrize("kind", BOTTLENECKS | WITHOUT)
def test_an_objective_that_would_drop_the_auxiliary_loss_refuses_it(kind):
    torch.manual_seed(0)
    bottleneck = (BOTTLENECKS | WITHOUT)[kind]().train()
    features = torch.randn(5, 4, 3, 3, requires_grad=True)
    q = bottleneck(features)
    assert bottleneck.has_loss == (q.loss is not None and bool((q.loss != 0).any()))
    assert bottleneck.has_loss == (
        kind not in ("diveq", "fsq", "projected", "product", "residual code", *WITHOUT)
    )
    refused = pytest.raises(ValueError, match="no place for the bottleneck's auxiliary loss")
    with refused if bottleneck.has_loss else nullcontext():
        IWAE(3)(lambda z: z.flatten(2).sum(-1), q, uniform(bottleneck, q.mode().shape[1:]))


@bottlenecks
def test_decoding_the_index_grid_is_the_hard_forward_pass(kind):
    model = make(kind).eval()
    image = torch.rand(7, 1, 6, 6)
    with torch.no_grad():
        q = model.bottleneck(model.encoder(image))
        z = model.bottleneck.embed(q.mode())
        expected = model.likelihood.mean(model.decoder(z))
    index = model.encode(image)
    assert torch.equal(index, q.mode())
    torch.testing.assert_close(model.decode(index), expected)
    assert model.sample(3).shape == (3, 1, 6, 6)


@pytest.mark.parametrize("kind", sorted(BOTTLENECKS.keys() - {"residual code"}))  # its KL is noisy
def test_the_objective_does_not_change_with_the_batch_size(kind):
    model, image = make(kind), torch.rand(3, 1, 6, 6)
    losses = []
    for copies in (1, 4):
        batch = image.repeat(copies, 1, 1, 1)
        features = model.encoder(batch).detach()
        with torch.no_grad():
            # At the code of evaluation, which no noise moves.
            model.bottleneck.eval()
            q = model.bottleneck(features)
            z = model.bottleneck.embed(q.mode())
            extra = 0 if q.loss is None else q.loss
            losses.append((model.log_px(z[None], batch) - q.kl(model.prior) - extra).mean())
    torch.testing.assert_close(losses[0], losses[1])


@bottlenecks
def test_training_moves_every_part_and_learns(tmp_path, kind):
    model = make(kind)
    before = {k: v.detach().clone() for k, v in model.named_parameters() if v.requires_grad}
    first = toy_trainer(tmp_path).test(model, datamodule=toy_data(), verbose=False)[0]
    toy_trainer(tmp_path, max_epochs=6).fit(model, datamodule=toy_data())
    last = toy_trainer(tmp_path).test(model, datamodule=toy_data(), verbose=False)[0]
    assert last["test/elbo"] > first["test/elbo"] + 3 and last["test/psnr"] > first["test/psnr"]
    still = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and torch.equal(p, before[name])
    ]
    assert not still


@bottlenecks
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_numbers_do_not_change_with_the_batch_size(tmp_path, kind, stage):
    model = make(kind, size=6).eval()
    results = []
    for size in (50, 13):
        data = toy_data()
        data.eval_batch_size = size
        trainer = toy_trainer(tmp_path)
        results.append(getattr(trainer, stage)(model, datamodule=data, verbose=False)[0])
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    prefix = "val" if stage == "validate" else "test"
    assert {f"{prefix}/{n}" for n in ("mse", "psnr", "dead_codes")} <= set(results[0])
    assert all(math.isfinite(value) for value in results[0].values())
    assert f"{prefix}/ssim" not in results[0]  # of 6x6 pixels there is none


@bottlenecks
def test_training_2n_steps_equals_n_then_a_stop_then_n(tmp_path, kind):
    def train(steps, path=None):
        model = make(kind)
        trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=[RandomState()])
        trainer.fit(model, datamodule=toy_data(), ckpt_path=path)
        return trainer, model

    _, whole = train(14)
    stopped, _ = train(7)
    stopped.save_checkpoint(tmp_path / "stop.ckpt")
    _, resumed = train(14, tmp_path / "stop.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_mixture_of_logistics_is_a_likelihood_of_it(tmp_path):
    model = make(likelihood=DiscretizedLogisticMixture(2))
    toy_trainer(tmp_path, max_steps=3).fit(model, datamodule=toy_data())
    assert model.sample(2).shape == (2, 1, 6, 6)


def test_errors_are_those_of_torchmetrics_averaged_over_images():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 3, 16, 16, generator=generator)
    other = (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    metric = ImageQuality()
    for a, b in zip(other.split(4), image.split(4), strict=True):
        metric.update(a, b)
    got = metric.compute()
    psnr = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    torch.testing.assert_close(got["psnr"], psnr(other, image))
    torch.testing.assert_close(got["mse"], (other - image).square().mean())


def test_a_network_without_a_grid_is_refused():
    with pytest.raises(ValueError, match="needs a network with a grid.*; got MLP"):
        CodebookVAE(MLP())


def test_the_relaxed_code_has_a_gap(tmp_path):
    model = make()
    model.bottleneck.estimator = GumbelSoftmax(2.0)
    result = toy_trainer(tmp_path).validate(model, datamodule=toy_data(), verbose=False)[0]
    assert abs(result["val/relaxation_gap"]) > 1e-4
