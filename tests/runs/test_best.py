"""The best so far goes on with a run, wherever its folder has gone."""

import shutil

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dvae.callbacks import Checkpoints, RandomState
from dvae.schedules import Exponential
from tests.toy import toy_data, toy_model, toy_trainer

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Be aware that when")


def train(root, epochs, ckpt_path=None, *more, **settings):
    """Train with a learning rate that grows, so that the first epochs are the best."""
    pl.seed_everything(3, verbose=False)
    checkpoints = Checkpoints(**settings)
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


class Seen(pl.Callback):
    """What each validation says of some metrics, by step."""

    def __init__(self):
        self.found = {}

    def on_validation_end(self, trainer, model):
        if not trainer.sanity_checking:
            self.found[trainer.global_step] = {
                k: float(v) for k, v in trainer.callback_metrics.items()
            }


FOLLOWED = [("val/kl", "min"), ("val/kl", "max"), ("val/perplexity", "max"), ("val/elbo", "max")]


@pytest.mark.parametrize(("metric", "mode"), FOLLOWED)
def test_it_is_the_best_by_the_metric_that_is_followed_and_goes_on_so(metric, mode, tmp_path):
    seen = Seen()
    one = train(tmp_path / "a", 4, None, seen, monitor=metric, mode=mode)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    two = train(tmp_path / "b", 8, last, seen, monitor=metric, mode=mode)
    values = {step: found[metric] for step, found in seen.found.items()}
    assert len(set(values.values())) >= 4 and len(values) == 8
    for run, steps in ((one, 12), (two, 24)):
        best = {"max": max, "min": min}[mode](
            (step for step in values if step <= steps), key=values.__getitem__
        )
        assert read(run.best_model_path)["global_step"] == best
        assert float(run.best_model_score) == values[best]
    goal = {"max": "highest", "min": "lowest"}[mode]
    assert two.chosen_by == f"the {goal} {metric}, {float(two.best_model_score):.5g}"


def test_that_another_metric_chose_it_is_said(first, caplog):
    last = "runs/a/checkpoints/last.ckpt"
    again = train("runs/c", 4, last, monitor="val/kl", mode="min")
    assert "judged anew from here on, by the lowest val/kl" in caplog.text
    assert read(again.best_model_path)["global_step"] == 12


@pytest.mark.parametrize("sanity", [0, 2])
def test_a_metric_that_is_not_logged_costs_no_step(sanity, tmp_path):
    class Sanity(pl.Callback):
        def setup(self, trainer, model, stage):
            trainer.num_sanity_val_steps = sanity

    message = (
        "checkpoints.monitor must be a metric of the validation; got val/perplexty; did you mean "
        "val/perplexity[?] There are: val/dead_codes, val/elbo, .*, val/usage$"
    )
    with pytest.raises(MisconfigurationException, match=message):
        train(tmp_path, 2, None, Sanity(), monitor="val/perplexty")
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert (last.is_file() and read(last)["global_step"]) == (0 if sanity else 3)
    if not sanity:
        good = train(tmp_path / "b", 2, last, monitor="val/perplexity")
        assert read(good.best_model_path)["global_step"] == 6


def test_a_mode_is_one_of_two():
    with pytest.raises(ValueError, match="checkpoints.mode must be one of max, min; got 'least'"):
        Checkpoints(mode="least")
