"""A folder that goes away during training costs nothing that was trained."""

import shutil

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import Checkpoints, RandomState
from dvae.cli.errors import one_line
from dvae.data import ImageFolder
from dvae.models import CategoricalVAE
from dvae.networks import MLP
from tests.toy import toy_trainer

IMAGES = 80


class TakeAway(pl.Callback):
    """Remove the folder after two steps."""

    def __init__(self, folder, to):
        self.folder, self.to = folder, to

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2:
            self.folder.rename(self.to)


class TakeAwayInValidation(pl.Callback):
    """Remove the folder as the first validation begins."""

    def __init__(self, folder, to):
        self.folder, self.to = folder, to

    def on_validation_start(self, *args):
        self.folder.rename(self.to)


class Validations(pl.Callback):
    """List the steps and the ELBOs of all validations."""

    def __init__(self):
        self.found = []

    def on_validation_end(self, trainer, *args):
        self.found.append((trainer.global_step, float(trainer.callback_metrics["val/elbo"])))


@pytest.mark.parametrize("interval", [1.0, 14])  # at the end of the epoch of 34 batches, and within
def test_a_validation_is_taken_up_again(interval, tmp_path, monkeypatch, caplog):
    folder, away = tmp_path / "images", tmp_path / "away"
    folder.mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (8, 8), (3 * number, 90, 200 - number)).save(folder / f"{number:02}.png")
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: 100)
    # No worker processes, whose start takes longer than this test.
    monkeypatch.setattr("dvae.data.loading.os.sched_getaffinity", lambda _: set())

    def train(where, ckpt_path=None, *more):
        pl.seed_everything(0, verbose=False)
        model = CategoricalVAE(
            MLP(image_shape=(3, 8, 8), hidden=(16,)), CategoricalBottleneck(2, 3)
        )
        checkpoints, validations = Checkpoints(), Validations()
        trainer = toy_trainer(
            tmp_path / where,
            max_epochs=2,
            enable_checkpointing=True,
            val_check_interval=interval,
            callbacks=[*more, RandomState(), checkpoints, validations],
        )
        data = ImageFolder(str(folder), image_size=8, batch_size=2, val_size=4)
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return validations.found, checkpoints.best_model_score, model.state_dict()

    with pytest.raises(ValueError, match="cannot read"):
        train("broken", None, TakeAwayInValidation(folder, away))
    assert "the next batch could not be read; step" in caplog.text
    away.rename(folder)
    (last,) = (tmp_path / "broken").rglob("last.ckpt")
    validated, best, expected = train("whole")
    assert torch.load(last, weights_only=True)["global_step"] == validated[0][0]
    again, best_again, found = train("again", last)
    assert again == validated and best_again == best
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_training_is_saved_and_goes_on_when_the_folder_is_back(tmp_path, monkeypatch, caplog):
    folder, away = tmp_path / "images", tmp_path / "away"
    folder.mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (8, 8), (3 * number, 90, 200 - number)).save(folder / f"{number:02}.png")
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: 100)

    def train(where, ckpt_path=None, *more):
        pl.seed_everything(0, verbose=False)
        model = CategoricalVAE(
            MLP(image_shape=(3, 8, 8), hidden=(16,)), CategoricalBottleneck(2, 3)
        )
        trainer = toy_trainer(
            tmp_path / where,
            max_epochs=1,
            enable_checkpointing=True,
            limit_val_batches=0,
            callbacks=[*more, RandomState(), Checkpoints()],
        )
        data = ImageFolder(str(folder), image_size=8, batch_size=2, val_size=4)
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return trainer.global_step, model.state_dict()

    with pytest.raises(ValueError, match="cannot read") as error:
        train("broken", None, TakeAway(folder, away))
    # Of the whole report of a worker process, the line that says something.
    assert one_line(error.value).startswith(f"cannot read {folder}")
    assert "the next batch could not be read; step" in caplog.text
    shutil.copytree(away, folder)
    (last,) = (tmp_path / "broken").rglob("last.ckpt")
    saved = torch.load(last, weights_only=True)["global_step"]
    steps, expected = train("whole")
    assert 2 <= saved < steps
    resumed, found = train("again", last)
    assert resumed == steps
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
