"""What cannot be trained or resumed is said before the run has a folder."""

from datetime import timedelta

import pytest
import torch
from jsonargparse import Namespace
from torch import nn

from dvae.callbacks import Anneal, Freeze
from dvae.cli.checks import check_batches, check_optimizer, check_resumable, check_schedules
from dvae.cli.trainer import check_length
from dvae.schedules import Cosine, Linear
from tests.toy import toy_data, toy_model, toy_trainer

WEIGHTS = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]


def saved(optimizer, **more):
    """What a checkpoint holds besides the weights, of a model made in Python."""
    return {"optimizer_states": [optimizer.state_dict()], "loops": {}, "lr_schedulers": []} | more


def settings(path):
    return {"hyper_parameters": {"optimizer": path and {"class_path": path}}}


def test_a_run_resumes_with_the_optimizer_that_it_had():
    classes = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]
    for before in classes:
        for now in classes:
            for known in ({}, settings(f"torch.optim.{before.__name__}")):
                content = saved(before(WEIGHTS, lr=0.1), **known)
                if before is now:
                    check_resumable("x.ckpt", content, now(WEIGHTS, lr=0.2), False)
                else:
                    with pytest.raises(ValueError, match="trained with .* and this run has"):
                        check_resumable("x.ckpt", content, now(WEIGHTS, lr=0.2), False)
    adamw = torch.optim.AdamW(WEIGHTS)
    check_resumable("x.ckpt", saved(adamw, **settings(None)), adamw, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer_states": []}, "holds weights without the state of the optimizer"),
        ({"loops": None}, None),
        ({"lr_schedulers": [{}]}, "it has a model.lr_schedule and this run has none"),
        ({"optimizer_states": None}, "--init_from takes over its weights"),
    ],
)
def test_a_checkpoint_without_what_training_goes_on_with(change, message):
    optimizer = torch.optim.SGD(WEIGHTS, lr=0.1)
    content = saved(optimizer, **change)
    if message is None:
        check_resumable("x.ckpt", content, optimizer, False)
        del content["loops"]
        message = "weights without the state"
    with pytest.raises(ValueError, match=f"x.ckpt cannot be resumed: .*{message}"):
        check_resumable("x.ckpt", content, optimizer, False)


def test_other_parameters_cannot_go_on_with_its_state():
    content = saved(torch.optim.SGD(WEIGHTS, lr=0.1))
    with pytest.raises(ValueError, match="trained 2 parameters in 1 group.s. and this run's trai"):
        check_resumable("x.ckpt", content, torch.optim.SGD(WEIGHTS[:1], lr=0.1), False)
    with pytest.raises(ValueError, match="this run has a model.lr_schedule and it has none"):
        check_resumable("x.ckpt", content, torch.optim.SGD(WEIGHTS, lr=0.1), True)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"weight_decay": -1.0}, {"lr": float("nan")}])
def test_an_optimizer_that_cannot_be(wrong):
    model = toy_model(optimizer=lambda p: torch.optim.AdamW(p, **wrong))
    with pytest.raises(ValueError, match="model.optimizer cannot be made: Invalid"):
        check_optimizer(model)


def test_a_length_is_needed_and_is_more_than_nothing():
    endless = {"max_epochs": -1, "max_steps": -1, "max_time": None}
    with pytest.raises(ValueError, match="never end"):
        check_length(Namespace(**endless))
    with pytest.raises(ValueError, match="never end"):  # as Lightning takes it beside a timer
        check_length(Namespace(**endless | {"max_epochs": None}))
    for end in (
        {"max_epochs": 1},
        {"max_steps": 1},
        {"max_time": "00:00:00:01"},
        {"fast_dev_run": 1},
    ):
        check_length(Namespace(**endless | end))
    with pytest.raises(ValueError, match="max_steps must be an integer >= 1, or -1 for no limit"):
        check_length(Namespace(max_epochs=1, max_steps=None))
    with pytest.raises(ValueError, match="limit_train_batches must be above 0"):
        check_length(Namespace(max_epochs=1, limit_train_batches=0.0))


def batches(tmp_path, model=None, batch_size=16, **kwargs):
    trainer = toy_trainer(tmp_path, max_epochs=3, **kwargs)
    data = toy_data(batch_size=batch_size)
    data.setup()
    return check_batches(model or toy_model(), data, trainer)


def test_the_batches_are_those_that_training_will_have(tmp_path):
    assert batches(tmp_path) == 11
    assert batches(tmp_path, limit_train_batches=4) == 4
    assert batches(tmp_path, limit_train_batches=0.5) == 5
    with pytest.raises(ValueError, match="limit_train_batches must be .* at least 1 / 11"):
        batches(tmp_path, limit_train_batches=0.05)
    with pytest.raises(ValueError, match="limit_val_batches must be"):
        batches(tmp_path, limit_val_batches=0.5)
    with pytest.raises(ValueError, match="val_check_interval must be at most the 4 training"):
        batches(tmp_path, limit_train_batches=4, val_check_interval=5)
    assert batches(tmp_path, val_check_interval={"minutes": 1}) == 11
    assert batches(tmp_path, val_check_interval=50, check_val_every_n_epoch=None) == 11


def test_batch_norm_needs_two_images_unless_it_is_frozen(tmp_path):
    with pytest.raises(ValueError, match="data.batch_size .* must be >= 2 with batch norm; got 1"):
        batches(tmp_path, batch_size=1)
    model = toy_model()
    trainer = toy_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.callbacks.append(Freeze(["encoder", "decoder.1"]))  # the decoder's own batch norm
    trainer.callbacks[-1].setup(trainer, model, "fit")
    assert batches(tmp_path, model, batch_size=1) == 180
    trainer.fit(model, datamodule=toy_data(batch_size=1))


def test_a_schedule_is_asked_before_training(tmp_path):
    def check(lr_schedule=None, anneal=None, **length):
        callbacks = [Anneal("tau", anneal)] if anneal else []
        trainer = toy_trainer(tmp_path, callbacks=callbacks, **length)
        check_schedules(toy_model(lr_schedule=lr_schedule), trainer, 11)

    endless = {"max_epochs": -1, "max_time": timedelta(minutes=1)}
    check(Linear(1.0, 0.1), Cosine(1.0, 0.1), max_epochs=3)
    check(Linear(1.0, 0.1, 5), Cosine(1.0, 0.1, 5), **endless)
    for schedules in ((Linear(1.0, 0.1), None), (None, Cosine(1.0, 0.1))):
        with pytest.raises(ValueError, match="follows the length of the run, which has none"):
            check(*schedules, **endless)
    with pytest.raises(ValueError, match="lr_schedule must stay >= 0; it goes down to -1"):
        check(Linear(1.0, -1.0), max_epochs=3)
