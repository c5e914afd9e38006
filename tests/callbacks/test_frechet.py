"""The laws of the Fréchet distance: that of two Gaussians, and 0 for perfect reconstructions."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from dvae.callbacks import FrechetDistance
from tests.toy import toy_data, toy_model, toy_trainer


class Features(nn.Module):
    """Stands for the network: the first row of the first and of the last channel."""

    num_features = 12

    def forward(self, x):
        assert x.shape[1] == 3
        return torch.cat([x[:, 0, 0], x[:, -1, 1]], -1)


@pytest.fixture
def callback(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr("dvae.callbacks.frechet.find_spec", lambda name: name)
    callback = FrechetDistance(str(tmp_path / "weights.pth"))
    callback._make_metric = lambda: FrechetInceptionDistance(feature=Features())
    return callback


def measured(tmp_path, model, callback):
    trainer = toy_trainer(tmp_path, callbacks=[callback])
    (result,) = trainer.test(model, datamodule=toy_data(), verbose=False)
    return result["test/fid"]


def test_perfect_reconstructions_have_distance_zero(tmp_path, callback):
    model = toy_model()
    model.reconstruct = lambda image: image
    assert measured(tmp_path, model, callback) == pytest.approx(0, abs=1e-4)


def test_a_shift_of_all_pixels_is_its_square(tmp_path, callback):
    model = toy_model()
    model.reconstruct = lambda image: image + 0.25
    expected = 12 * 0.25**2
    assert measured(tmp_path, model, callback) == pytest.approx(expected, rel=1e-3)


def test_a_trained_models_distance_is_logged(tmp_path, callback):
    assert measured(tmp_path, toy_model(), callback) > 0.1


def test_weights_that_are_not_there_are_asked_for():
    with pytest.raises(ValueError, match=r"there is no file /nowhere; get weights-inception"):
        FrechetDistance("/nowhere")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr("dvae.callbacks.frechet.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dvae\[fid\]'"):
        FrechetDistance(str(tmp_path / "weights.pth"))
