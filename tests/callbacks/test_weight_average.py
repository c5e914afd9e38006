"""The moving average of the weights: its formula, where it is used, what it leaves alone."""

import pytest
import pytorch_lightning as pl
import torch

from dvae.callbacks import Checkpoints, Freeze, RandomState, WeightAverage
from dvae.callbacks.weight_average import check_average
from tests.toy import toy_data, toy_model, toy_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory")


class Watch(pl.Callback):
    """Follows the average by its formula, and keeps what each validation saw."""

    def __init__(self, decay):
        self.decay, self.average, self.validated, self.trained = decay, {}, [], []

    def on_train_batch_end(self, trainer, model, *args):
        step = trainer.global_step
        kept = min(self.decay, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            old = self.average.get(name, p.detach())
            self.average[name] = kept * old + (1 - kept) * p.detach()

    def on_validation_batch_start(self, trainer, model, *args):
        self.validated = [(n, p.detach().clone()) for n, p in model.named_parameters()]

    def on_train_batch_start(self, trainer, model, *args):
        self.trained.append(torch.cat([p.detach().flatten() for p in model.parameters()]))


def fit(folder, *callbacks, **kwargs):
    pl.seed_everything(1, verbose=False)
    model = toy_model()
    settings = {"max_epochs": 2, "enable_checkpointing": True} | kwargs
    trainer = toy_trainer(folder, callbacks=[*callbacks, RandomState(), Checkpoints()], **settings)
    trainer.fit(model, datamodule=toy_data())
    return model


def test_a_second_run_with_the_same_object_averages_afresh(tmp_path):
    used = WeightAverage(0.9)
    fit(tmp_path / "first", used, max_epochs=3)
    again, fresh = (fit(tmp_path / str(n), a) for n, a in enumerate((used, WeightAverage(0.9))))
    for ours, theirs in zip(again.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_trainer_that_has_fitted_tests_a_checkpoint_by_its_average(tmp_path):
    pl.seed_everything(1, verbose=False)
    model, averages = toy_model(), [WeightAverage(0.9), Checkpoints()]
    trainer = toy_trainer(tmp_path, callbacks=averages, max_epochs=2, enable_checkpointing=True)
    trainer.fit(model, datamodule=toy_data())
    path = tmp_path / "checkpoints" / "last.ckpt"
    trainer.test(model, datamodule=toy_data(), ckpt_path=path, verbose=False)
    saved = torch.load(path, weights_only=True)["state_dict"]
    for name, weight in model.named_parameters():
        assert torch.equal(weight, saved[name]), name


def test_a_run_does_not_go_on_from_an_average_without_one():
    content = {"state_dict": {}, "current_model_state": {}}
    check_average("last.ckpt", content, [Checkpoints(), WeightAverage(0.9)])
    check_average("last.ckpt", {"state_dict": {}}, [Checkpoints()])
    with pytest.raises(ValueError, match="give --ema as it was"):
        check_average("last.ckpt", content, [Checkpoints()])


@pytest.mark.parametrize("decay", [0.9, 0.05])
def test_it_is_the_average_that_is_validated_and_saved(tmp_path, decay):
    watch = Watch(decay)
    model = fit(tmp_path, WeightAverage(decay), watch)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for (name, seen), weight in zip(watch.validated, model.parameters(), strict=True):
        torch.testing.assert_close(seen, watch.average[name])
        assert torch.equal(saved[name], seen) and torch.equal(weight, seen), name


def test_the_training_is_that_of_no_average_to_the_bit(tmp_path):
    runs = {}
    for name, callbacks in {"with": [WeightAverage(0.9)], "without": []}.items():
        watch = Watch(0.9)
        fit(tmp_path / name, *callbacks, watch)
        runs[name] = torch.stack(watch.trained)
    assert torch.equal(runs["with"], runs["without"])


def test_what_is_frozen_stays_to_the_bit(tmp_path):
    pl.seed_everything(1, verbose=False)
    before = [p.clone() for p in toy_model().encoder.parameters()]
    model = fit(tmp_path, Freeze(["encoder"]), WeightAverage(0.9))
    assert all(map(torch.equal, model.encoder.parameters(), before))


class Save(pl.Callback):
    """Writes a checkpoint amid a validation, as where its next batch cannot be read."""

    def on_validation_batch_start(self, trainer, *args):
        trainer.save_checkpoint("amid.ckpt")

    def on_validation_end(self, trainer, *args):
        trainer.save_checkpoint("after.ckpt")


def test_amid_a_validation_the_checkpoint_says_which_is_which(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(tmp_path, WeightAverage(0.9), Save())
    amid, after = (torch.load(f"{n}.ckpt", weights_only=True) for n in ("amid", "after"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(amid[part][n], after[part][n]) for n in after[part]), part


def test_a_step_that_only_the_end_of_the_training_can_save_has_both(tmp_path):
    class Full(Checkpoints):
        def on_train_epoch_end(self, *args):
            """Leave it to the end of the training, as a full disk does."""

    pl.seed_everything(1, verbose=False)
    settings = {"max_epochs": 1, "enable_checkpointing": True, "limit_val_batches": 0}
    trainer = toy_trainer(tmp_path, callbacks=[WeightAverage(0.9), Full()], **settings)
    trainer.fit(toy_model(), datamodule=toy_data())
    found = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    name = "encoder.1.weight"
    assert not torch.equal(found["state_dict"][name], found["current_model_state"][name])
