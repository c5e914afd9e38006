"""Laws of the distances of features: of Gaussians in closed form, and of who lies among whom."""

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dvae.callbacks import FeatureDistance
from dvae.functional import frechet_distance, precision_recall
from dvae.likelihoods import GaussianVector
from dvae.models import CategoricalVAE
from dvae.networks import MLP
from tests.toy import toy_data, toy_model, toy_trainer

pytest.importorskip("efficientnet_lite_pytorch")


def features(count=300, width=6):
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mix


def test_the_distance_is_that_of_gaussians():
    a = features()
    shift = torch.arange(6.0, dtype=torch.float64)
    trace = a.var(0).sum()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(a, a + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)
    scaled = a.mean(0) + 3 * (a - a.mean(0))
    assert frechet_distance(a, scaled) == pytest.approx(float(4 * trace), rel=1e-9)
    few = features(4, 6)  # fewer images than features
    assert frechet_distance(few, few + 1) == pytest.approx(6, rel=1e-6)
    turned, _ = torch.linalg.qr(features(6, 6))
    b = a.square()
    same = frechet_distance(a @ turned, b @ turned)
    torch.testing.assert_close(same, frechet_distance(a, b))
    torch.testing.assert_close(frechet_distance(b, a), frechet_distance(a, b))


def test_precision_and_recall_say_who_lies_among_whom():
    a = features(1500)
    far = a + 1000
    assert [float(x) for x in precision_recall(a, a)] == [1, 1]
    assert [float(x) for x in precision_recall(a, far)] == [0, 0]
    both = torch.cat([a, far])
    assert [float(x) for x in precision_recall(both, a)] == [1, 0.5]  # half of it is never made
    assert [float(x) for x in precision_recall(a, both)] == [0.5, 1]


class Rows(nn.Module):
    """Stands for the network: the mean of each row of the image."""

    def forward(self, image):
        assert image.shape[-2:] == (224, 224)
        return image.mean((1, 3))[:, ::40]


def measured(tmp_path, change):
    model, callback = toy_model(), FeatureDistance()
    callback._network = Rows()
    model.reconstruct = change
    trainer = toy_trainer(tmp_path, callbacks=[callback])
    (result,) = trainer.test(model, datamodule=toy_data(), verbose=False)
    return {name: result[f"test/{name}_lite1"] for name in ("frechet", "precision", "recall")}


def test_perfect_reconstructions_are_at_no_distance_and_blank_ones_are(tmp_path):
    same = measured(tmp_path, lambda image: image)
    assert same == {"frechet": pytest.approx(0, abs=1e-5), "precision": 1, "recall": 1}
    blank = measured(tmp_path, lambda image: image * 0)
    assert blank["frechet"] > 0.1 and blank["recall"] == 0


def test_events_that_are_no_images_are_refused_before_the_test(tmp_path):
    model = CategoricalVAE(MLP(event_shape=(3,)), likelihood=GaussianVector())
    with pytest.raises(ValueError, match="this is for models of images"):
        toy_trainer(tmp_path, callbacks=[FeatureDistance()]).test(model, datamodule=toy_data())


def test_images_of_other_channels_are_refused_before_the_run(tmp_path):
    model = CategoricalVAE(MLP(event_shape=(4, 6, 6)))
    with pytest.raises(ValueError, match="1 or 3 channels; got 4"):
        trainer = toy_trainer(tmp_path, callbacks=[FeatureDistance()], max_epochs=1)
        trainer.fit(model, datamodule=toy_data())


def test_too_few_images_are_a_line_in_the_log(tmp_path, caplog):
    few = TensorDataset(torch.rand(3, 1, 6, 6))
    trainer = toy_trainer(tmp_path, callbacks=[FeatureDistance()])
    with caplog.at_level(logging.WARNING, "dvae"):
        (result,) = trainer.test(toy_model(), DataLoader(few), verbose=False)
    assert "more than 3 test images; got 3" in caplog.text
    assert "test/elbo" in result and "test/frechet_lite1" not in result


def test_the_network_itself_tells_noise_from_an_image():
    callback = FeatureDistance()
    image = torch.rand(4, 1, 8, 8)
    found = callback._seen(image)
    assert found.shape == (4, 1280) and not found.requires_grad
    assert torch.equal(found, callback._seen(image))
    assert (found - callback._seen(torch.rand(4, 1, 8, 8))).abs().max() > 0.1
