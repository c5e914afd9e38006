import csv

import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

from dvae.callbacks import (
    Anneal,
    Checkpoints,
    Curves,
    LatentInspector,
    RandomState,
    Reconstructions,
)
from dvae.estimators import GumbelSoftmax
from dvae.plotting import labelled_rows
from dvae.schedules import Linear
from tests.toy import toy_data, toy_model, toy_trainer


def fit(tmp_path, callbacks, epochs=2, **kwargs):
    torch.manual_seed(0)
    model = toy_model()
    trainer = toy_trainer(
        tmp_path,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=CSVLogger(tmp_path, name="x"),
        **kwargs,
    )
    trainer.fit(model, datamodule=toy_data())
    return trainer, model


def test_the_value_of_every_step_is_that_of_the_schedule(tmp_path):
    schedule = Linear(2.0, 0.5)
    seen = []

    class Spy(GumbelSoftmax):
        def expectation(self, f, logits, generator=None):
            if self.training:
                seen.append(self.tau.item())
            return super().expectation(f, logits, generator)

    trainer = toy_trainer(tmp_path, max_epochs=2, callbacks=[Anneal("tau", schedule)])
    trainer.fit(toy_model(Spy()), datamodule=toy_data())
    assert seen == pytest.approx([schedule(step, 22) for step in range(22)])


def test_gradient_accumulation_anneals_by_optimizer_steps(tmp_path):
    callback = Anneal("tau", Linear(2.0, 0.5))
    trainer = toy_trainer(tmp_path, max_epochs=2, callbacks=[callback], accumulate_grad_batches=2)
    model = toy_model()
    trainer.fit(model, datamodule=toy_data())
    assert trainer.global_step == 12
    assert model.bottleneck.estimator.tau.item() == pytest.approx(Linear(2.0, 0.5)(11, 12))


@pytest.mark.curves
def test_pictures_and_curves_change_nothing_in_the_training(tmp_path):
    _, plain = fit(tmp_path / "a", [])
    _, watched = fit(tmp_path / "b", [Reconstructions(4), Curves(), RandomState()])
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name


@pytest.mark.curves
def test_pictures_of_each_epoch_and_the_curves_are_there(tmp_path):
    fit(tmp_path, [Reconstructions(4), Curves()])
    media = tmp_path / "x" / "version_0" / "media"
    for kind in ("reconstructions", "samples"):
        assert [p.name for p in sorted((media / kind).iterdir())] == [
            "step_0000011.png",
            "step_0000022.png",
        ]
    with Image.open(media / "curves.png") as curves:
        assert curves.size[0] > 1000


class Stop(Callback):
    """Stop at a step, as a timer does."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 13


@pytest.mark.parametrize(
    ("how", "steps"),
    [
        ({"max_epochs": 3}, [22, 33]),
        ({"max_steps": 13}, [13]),
        ({"max_steps": 11}, [11]),
        ({"max_steps": 22}, [22]),
        ({"max_steps": 25}, [22, 25]),
        ({"max_epochs": 2, "max_steps": 30}, [22]),
        ({"max_steps": 30, "stop": True}, [13]),
        ({"max_steps": 5, "accumulate_grad_batches": 3}, [5]),
    ],
)
def test_pictures_come_at_the_end_of_a_run_however_it_ends(tmp_path, how, steps):
    pictures = [Reconstructions(2, every_n_epochs=2), LatentInspector(2, 8, parts=["usage"])]
    callbacks = pictures + [Stop()] * how.pop("stop", False)
    trainer = toy_trainer(
        tmp_path, callbacks=callbacks, limit_val_batches=0, **({"max_epochs": -1} | how)
    )
    trainer.fit(toy_model(), datamodule=toy_data())
    for name in ("samples", "latent_usage"):
        found = sorted(path.name for path in (tmp_path / "media" / name).iterdir())
        assert found == [f"step_{step:07d}.png" for step in steps]


def test_pictures_as_seldom_as_asked_and_the_last_one_always(tmp_path):
    fit(tmp_path, [Reconstructions(4, every_n_epochs=2)], epochs=3)
    media = tmp_path / "x" / "version_0" / "media" / "samples"
    assert sorted(p.name for p in media.iterdir()) == ["step_0000022.png", "step_0000033.png"]
    fit(tmp_path, [Reconstructions(4, every_n_epochs=0)])
    assert not (tmp_path / "x" / "version_1" / "media").exists()


def test_rows_hold_the_images_unchanged():
    images = torch.rand(3, 1, 5, 5)
    picture = labelled_rows({"input": images, "hard": 1 - images}, height=5)
    width, height = picture.size
    assert height == 2 * 5 + 3 * 2
    left = picture.crop((width - 7, 2, width - 2, 7)).convert("L")
    got = torch.tensor(list(left.tobytes())).view(5, 5) / 255
    torch.testing.assert_close(got, images[-1, 0], atol=0.003, rtol=0)


def test_checkpoints_last_and_best(tmp_path):
    trainer, _ = fit(tmp_path, [Checkpoints()], epochs=3, enable_checkpointing=True)
    folder = tmp_path / "x" / "version_0" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert last["global_step"] == trainer.global_step == 33


def test_best_and_last_of_one_moment_are_made_once(tmp_path, monkeypatch):
    made, save = [], Trainer.save_checkpoint

    def counted(self, path):
        made.append(path.name)
        save(self, path)

    monkeypatch.setattr(Trainer, "save_checkpoint", counted)
    fit(tmp_path, [Checkpoints()], epochs=1, enable_checkpointing=True)
    folder = tmp_path / "x" / "version_0" / "checkpoints"
    assert made == ["best.ckpt"]
    assert (folder / "best.ckpt").read_bytes() == (folder / "last.ckpt").read_bytes()


def test_a_run_that_ends_within_an_epoch_leaves_its_last_step(tmp_path):
    fit(tmp_path, [Checkpoints()], epochs=None, max_steps=5, enable_checkpointing=True)
    folder = tmp_path / "x" / "version_0" / "checkpoints"
    for name in ("best.ckpt", "last.ckpt"):
        assert torch.load(folder / name, weights_only=True)["global_step"] == 5


@pytest.mark.filterwarnings("ignore:Total length of `list`")
def test_without_validation_the_best_is_the_last(tmp_path):
    torch.manual_seed(0)
    trainer = toy_trainer(
        tmp_path, max_epochs=2, callbacks=[Checkpoints()], enable_checkpointing=True
    )
    trainer.fit(toy_model(), datamodule=toy_data(val_size=0))
    best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert best["global_step"] == trainer.global_step


@pytest.mark.parametrize("kwargs", [{"count": 0}, {"every_n_epochs": -1}])
def test_wrong_values_are_refused(kwargs):
    with pytest.raises(ValueError, match=f"reconstructions.{next(iter(kwargs))} must be >= "):
        Reconstructions(**kwargs)


def test_the_learning_rate_is_logged_and_drawn_at_the_step_that_takes_it(tmp_path):
    schedule = Linear(1.0, 0.2)
    torch.manual_seed(0)
    curves = Curves()
    trainer = toy_trainer(
        tmp_path, max_epochs=2, callbacks=[curves], logger=CSVLogger(tmp_path, name="x")
    )
    trainer.fit(toy_model(lr_schedule=schedule), datamodule=toy_data())
    wanted = [2e-3 * schedule(step, 22) for step in range(22)]
    with (tmp_path / "x" / "version_0" / "metrics.csv").open() as file:
        logged = [float(r["anneal/lr"]) for r in csv.DictReader(file) if r["anneal/lr"]]
    assert logged == pytest.approx(wanted)
    assert [value for _, value in curves.state_dict()["points"]["anneal/lr"]] == pytest.approx(
        wanted
    )


def test_a_curve_has_a_point_for_each_validation_and_of_that_validation(tmp_path):
    # What is measured of the code at the end of an epoch is not of the next validation's step.
    curves, found = Curves(), []

    class Validations(Callback):
        def on_validation_end(self, trainer, pl_module):
            found.append((trainer.global_step, trainer.callback_metrics["val/elbo"].item()))

    look = LatentInspector(every_n_epochs=1, parts=["probe", "entropy"])
    fit(tmp_path, [look, curves, Validations()], val_check_interval=4, enable_checkpointing=False)
    points = curves.state_dict()["points"]
    assert points["val/elbo"] == found and len(found) == 4
    validated = {name: x for name, x in points.items() if name.startswith("val/")}
    assert {tuple(step for step, _ in x) for x in validated.values()} == {(4, 8, 15, 19)}
