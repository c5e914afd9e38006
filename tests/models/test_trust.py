"""A checkpoint that names a class from elsewhere is refused before that class is touched."""

import re

import pytest
import torch

from dvae.models import CategoricalVAE
from dvae.models.trust import refuse_foreign_classes
from dvae.networks import MLP
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


@pytest.mark.parametrize(
    "settings",
    [
        {"_instantiator": "subprocess.run"},
        {"_class_path": "os.system"},
        {"optimizer": "os.system"},
        {"optimizer": {"class_path": "torch.optimistic.Adam"}},
        {"bottleneck": {"init_args": {"estimators": [{"class_path": "dvaevil.RLOO"}]}}},
    ],
)
def test_everything_that_would_be_imported_is_looked_at(settings):
    with pytest.raises(ValueError, match="refused"):
        refuse_foreign_classes(settings)


def test_what_the_command_line_saves_is_let_through():
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}
    refuse_foreign_classes({"optimizer": optimizer, "lr_schedule": None, **SETTINGS})
