"""A checkpoint that names a class from elsewhere is refused before that class is touched."""

import copy
import inspect
import re
import sys
from argparse import ArgumentError

import pytest
import torch

from dvae.data import MNIST, ImageDataModule
from dvae.models import CategoricalVAE
from dvae.networks import MLP
from dvae.runs.trust import refuse_foreign_classes
from dvae.sharing.config import build_model
from tests.toy import toy_data, toy_trainer

SETTINGS = {
    "network": {
        "class_path": "dvae.networks.MLP",
        "init_args": {"image_shape": [1, 6, 6], "hidden": [8]},
    },
    "bottleneck": {
        "class_path": "dvae.bottlenecks.CategoricalBottleneck",
        "init_args": {"num_latents": 2, "num_codes": 3},
    },
}


class Spy(MLP):
    built = 0

    def __post_init__(self):
        Spy.built += 1
        super().__post_init__()


@pytest.fixture
def checkpoint(tmp_path):
    model = build_model({"class_path": "dvae.models.CategoricalVAE", "init_args": SETTINGS})
    trainer = toy_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(model, datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    return tmp_path / "good.ckpt"


def planted(path, change):
    content = torch.load(path, weights_only=True)
    change(content["hyper_parameters"])
    torch.save(content, path.with_name("bad.ckpt"))
    return path.with_name("bad.ckpt")


def test_a_class_from_elsewhere_is_refused_unless_it_is_trusted(checkpoint):
    assert CategoricalVAE.load_from_checkpoint(checkpoint).image_shape == (1, 6, 6)

    def plant(settings):
        settings["network"]["class_path"] = f"{__name__}.Spy"

    path = planted(checkpoint, plant)
    with pytest.raises(ValueError, match=re.escape(f"names the class '{__name__}.Spy'")):
        CategoricalVAE.load_from_checkpoint(path)
    assert Spy.built == 0
    CategoricalVAE.load_from_checkpoint(path, trusted=[__name__])
    assert Spy.built > 0


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A module on the path that leaves a mark where it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    left = tmp_path / "mark"
    lines = ["import pathlib", f"pathlib.Path({str(left)!r}).touch()", "class X: ...", ""]
    (tmp_path / "planted.py").write_text("\n".join(lines))
    return left


BARE = [
    "planted.X",
    " planted.X",
    "planted.X\n",
    "'planted.X'",
    "{class_path: planted.X}",
    '{"class_path": "planted.X"}',
    r'{"class_path": "planted\u002eX"}',
    "class_path: planted.X",
    '[{"class_path": "planted.X"}]',
    "!!python/name:planted.X",
]


PLACES = [*inspect.signature(CategoricalVAE).parameters, "_class_path", "estimator"]


def with_value(settings, place, value):
    settings = copy.deepcopy(settings)
    (settings["bottleneck"]["init_args"] if place == "estimator" else settings)[place] = value
    return settings


@pytest.mark.parametrize("value", [*BARE, *({"class_path": value} for value in BARE), [BARE[0]]])
@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
def test_no_string_of_a_checkpoint_is_taken_for_a_class(value, key):
    for place in PLACES:
        content = {"hyper_parameters": SETTINGS, key: with_value(SETTINGS, place, value)}
        with pytest.raises(ValueError, match="refused"):
            refuse_foreign_classes(content)


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams", "module_arguments"])
def test_loading_imports_no_module_of_the_checkpoint_s_choice(checkpoint, mark, key):
    content = torch.load(checkpoint, weights_only=True)
    for place in PLACES:
        settings = with_value(content["hyper_parameters"], place, "planted.X")
        torch.save({**content, key: settings}, checkpoint)
        with pytest.raises(ValueError, match="refused"):
            CategoricalVAE.load_from_checkpoint(checkpoint)
    assert not mark.exists()


def test_the_planted_module_is_imported_if_it_is_trusted(checkpoint, mark):
    path = planted(checkpoint, lambda settings: settings.update(network="planted.X"))
    with pytest.raises(ArgumentError):  # it is no network
        CategoricalVAE.load_from_checkpoint(path, trusted=["planted"])
    assert mark.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"_instantiator": "subprocess.run"},
        {"_class_path": "os.system"},
        {"optimizer": "os.system"},
        {"optimizer": "dvae.data.image_folder.os.system"},
        {"optimizer": "dvae.functional.softmax"},
        {"optimizer": "torch.optim.optimizer.torch"},
        {"optimizer": "dvae.networks.nothing"},
        {"optimizer": {"class_path": "torch.optimistic.Adam"}},
        {"optimizer": {"init_args": {"lr": torch.ones(())}}},
        {"bottleneck": {"init_args": {"estimators": [{"class_path": "dvaevil.RLOO"}]}}},
        ["os.system"],
    ],
)
def test_everything_that_would_be_imported_is_looked_at(settings):
    with pytest.raises(ValueError, match="refused"):
        refuse_foreign_classes({"hyper_parameters": settings})


def test_a_data_module_is_built_by_no_checkpoint(checkpoint, mark):
    content = torch.load(checkpoint, weights_only=True)
    builder = {"_instantiator": "pytorch_lightning.cli.instantiate_module"}
    content["datamodule_hyper_parameters"] = {**builder, "_class_path": "planted.X"}
    torch.save(content, checkpoint)
    for load in (ImageDataModule.load_from_checkpoint, MNIST.load_from_checkpoint):
        with pytest.raises(ValueError, match="is not loaded from a checkpoint"):
            load(checkpoint)
    assert not mark.exists()


def test_what_the_command_line_saves_is_let_through():
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}
    network = {"class_path": "dvae.networks.MLP", "init_args": {"norm": "none", "hidden": (8,)}}
    settings = {**SETTINGS, "network": network, "compile": "cuda-graphs", "lr_schedule": None}
    refuse_foreign_classes({"hyper_parameters": {"optimizer": optimizer, **settings}})
    refuse_foreign_classes({"state_dict": {}, "hyper_parameters": None})
