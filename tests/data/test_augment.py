"""Augmentation: each image its own draw, in training alone, and the same ones where it resumes."""

import pytest
import pytorch_lightning as pl
import torch
from torchvision.transforms import v2

from dvae.callbacks import RandomState
from dvae.data import Batch
from tests.toy import toy_data, toy_model, toy_trainer

CROP = [v2.RandomResizedCrop(6, (0.5, 1.0)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.2)]


class Seen(pl.Callback):
    def __init__(self):
        self.trained, self.validated = [], []

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.trained.append(batch.image.clone())

    def on_validation_batch_start(self, trainer, model, batch, batch_idx):
        self.validated.append(batch.image.clone())


def fit(folder, steps, augment, ckpt_path=None):
    pl.seed_everything(1, verbose=False)
    seen = Seen()
    trainer = toy_trainer(folder, max_steps=steps, callbacks=[seen, RandomState()])
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    data = toy_data(augment=augment)
    trainer.fit(toy_model(), datamodule=data, ckpt_path=ckpt_path)
    return trainer, seen


def test_a_resumed_run_sees_the_images_that_it_would_have_seen(tmp_path):
    _, whole = fit(tmp_path, 14, CROP)
    trainer, _ = fit(tmp_path, 5, CROP)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    _, resumed = fit(tmp_path, 14, CROP, tmp_path / "stop.ckpt")
    assert all(map(torch.equal, whole.trained[5:], resumed.trained))
    _, plain = fit(tmp_path, 14, ())
    assert not any(map(torch.equal, whole.trained, plain.trained))
    assert all(map(torch.equal, whole.validated, plain.validated)) and plain.validated


def test_each_image_has_a_draw_of_its_own_and_stays_what_is_stored(tmp_path):
    trainer, _ = fit(tmp_path, 1, CROP)
    trainer.training = True
    image = torch.randint(256, (1, 1, 6, 6), dtype=torch.uint8).expand(64, -1, -1, -1)
    torch.manual_seed(0)
    found = trainer.datamodule.on_after_batch_transfer(Batch(image, torch.zeros(64)), 0).image
    assert len(found.unique(dim=0)) > 32
    assert torch.equal((found * 255).round() / 255, found)


def test_an_image_of_another_size_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"data.augment must leave images \(1, 6, 6\); got"):
        fit(tmp_path, 1, [v2.CenterCrop(4)])
