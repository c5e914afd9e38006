"""The best so far goes on with a run, wherever its folder has gone."""

import shutil

import pytest
import pytorch_lightning as pl
import torch

from dvae.callbacks import Checkpoints, RandomState
from dvae.schedules import Exponential
from tests.toy import toy_data, toy_model, toy_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Be aware that when")


def train(root, epochs, ckpt_path=None, *more):
    """Train with a learning rate that grows, so that the first epochs are the best."""
    pl.seed_everything(3, verbose=False)
    checkpoints = Checkpoints()
    trainer = toy_trainer(
        root,
        max_epochs=epochs,
        limit_train_batches=3,
        enable_checkpointing=True,
        callbacks=[*more, RandomState(), checkpoints],
    )
    model = toy_model(lr_schedule=Exponential(1.0, 1e5, 8))
    trainer.fit(model, datamodule=toy_data(), ckpt_path=ckpt_path)
    return checkpoints


def read(path):
    return torch.load(path, weights_only=True)


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A run of three epochs in ``runs/a``, relative to where it was started; the last was worse."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    best = train("runs/a", 3)
    assert read(best.best_model_path)["global_step"] < 9
    return best


@pytest.mark.parametrize("where", ["there", "moved", "elsewhere"])
def test_it_is_found_and_brought_along(first, where, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "home" / "runs" / "a"
    if where != "there":
        shutil.move(folder, tmp_path / "b")
        folder = tmp_path / "b"
    if where == "elsewhere":
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
    last = folder / "checkpoints" / "last.ckpt"
    again = train("runs/c", 4, last)
    assert again.best_model_score == first.best_model_score
    # The folder of the new run is all that is needed from now on.
    shutil.rmtree(folder)
    shutil.move("runs/c", "runs/d")
    third = train("runs/e", 5, "runs/d/checkpoints/last.ckpt")
    assert third.best_model_score == first.best_model_score
    best = read("runs/e/checkpoints/best.ckpt")
    assert best["global_step"] < 9 and not caplog.text.count("best checkpoint so far")


def test_it_is_found_where_it_was_if_it_is_not_beside(first, tmp_path):
    last = shutil.copy("runs/a/checkpoints/last.ckpt", tmp_path / "mine.ckpt")
    again = train("runs/c", 4, last)
    assert again.best_model_score == first.best_model_score


def test_that_it_is_not_found_is_said(first, tmp_path, caplog):
    last = shutil.move("runs/a/checkpoints/last.ckpt", tmp_path / "last.ckpt")
    shutil.rmtree("runs/a")
    again = train("runs/c", 4, last)
    (line,) = [r.getMessage() for r in caplog.records if "best checkpoint so far" in r.getMessage()]
    assert f"is neither beside {last} nor at {tmp_path}/home/runs/a/checkpoints/best.ckpt" in line
    assert again.best_model_score < first.best_model_score
    assert read("runs/c/checkpoints/best.ckpt")["global_step"] == 12


def test_one_of_a_later_step_is_not_the_best_so_far(first, tmp_path, caplog):
    path = tmp_path / "home" / "runs" / "a" / "checkpoints" / "best.ckpt"
    later = read(path)
    later["global_step"] = 10
    torch.save(later, path)
    again = train("runs/c", 4, path.with_name("last.ckpt"))
    assert again.best_model_score < first.best_model_score
    assert "the best is judged anew" in caplog.text


def test_a_run_that_is_asked_to_stop_knows_the_best_of_its_last_validation(tmp_path):
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop |= trainer.global_step == 2

    best = train(tmp_path / "a", 3, None, Stop())
    last = read(tmp_path / "a" / "checkpoints" / "last.ckpt")
    (state,) = [state for key, state in last["callbacks"].items() if key.startswith("Checkpoints")]
    assert last["global_step"] == 2 and state["best_model_score"] == best.best_model_score
    assert read(best.best_model_path)["global_step"] == 2


def test_a_best_that_cannot_be_copied_stays_where_it_is(first, monkeypatch, caplog):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dvae.runs.resume.write_whole", full)
    again = train("runs/c", 4, "runs/a/checkpoints/last.ckpt")
    assert again.best_model_path == "runs/a/checkpoints/best.ckpt"
    assert "No space left on device); it stays the best" in caplog.text


def test_without_a_validation_the_best_is_the_last_and_not_one_before(first, tmp_path):
    trainer = toy_trainer(
        "runs/c",
        max_epochs=4,
        limit_train_batches=3,
        limit_val_batches=0,
        enable_checkpointing=True,
        callbacks=[RandomState(), Checkpoints()],
    )
    model = toy_model(lr_schedule=Exponential(1.0, 1e5, 8))
    last = "runs/a/checkpoints/last.ckpt"
    trainer.fit(model, datamodule=toy_data(), ckpt_path=last)
    assert read("runs/c/checkpoints/best.ckpt")["global_step"] == 12


def test_epochs_without_a_validation_do_not_replace_the_best(tmp_path):
    checkpoints = Checkpoints()
    trainer = toy_trainer(
        tmp_path,
        max_epochs=3,
        limit_train_batches=3,
        check_val_every_n_epoch=2,
        enable_checkpointing=True,
        callbacks=[checkpoints],
    )
    trainer.fit(toy_model(), datamodule=toy_data())
    assert read(checkpoints.best_model_path)["global_step"] == 6
