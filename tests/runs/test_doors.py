"""A model with classes of one's own is refused at each door, and let in where one trusts them."""

import sys

import pytest
import torch
import yaml

import dvae
from dvae.cli import main as dvae_command
from dvae.compare.runs import read_run
from dvae.data import Tokens
from dvae.explore import load_gallery, load_snapshots
from dvae.models import CategoricalVAE
from dvae.sharing import from_pretrained, load_checkpoint, save_pretrained
from dvae.sharing.__main__ import main as share
from dvae.sharing.config import build_model, config_of
from tests.toy import toy_data, toy_trainer

PARTS = """
import torch
from dvae.data import ImageDataModule, Images
from dvae.estimators import GumbelSoftmax
from dvae.models import CategoricalVAE

class Mine(GumbelSoftmax):
    def __init__(self, note: str = "", **settings):
        super().__init__(**settings)
        self.note = note

class MyModel(CategoricalVAE):
    pass

class MyImages(ImageDataModule):
    name, image_shape, num_classes = "my images", (1, 6, 6), 2

    def load(self, split):
        images = torch.arange(40 * 36).remainder(256).to(torch.uint8).view(40, 1, 6, 6)
        return Images(images, torch.zeros(40, dtype=torch.int64))
"""
CONFIG = {
    "class_path": "dvae.models.CategoricalVAE",
    "init_args": {
        "network": {
            "class_path": "dvae.networks.MLP",
            "init_args": {"image_shape": [1, 6, 6], "hidden": [8]},
        },
        "bottleneck": {
            "class_path": "dvae.bottlenecks.CategoricalBottleneck",
            "init_args": {
                "num_latents": 2,
                "num_codes": 3,
                "estimator": {
                    "class_path": "my_package.parts.Mine",
                    "init_args": {"note": "x", "tau": 0.5},
                },
            },
        },
    },
}
REFUSED = r"class 'my_package\.parts\.Mine'.*trusted"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one's own on the path, which nobody has imported yet."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    (tmp_path / "my_package" / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture
def checkpoint(tmp_path, package):
    """A checkpoint of the model, by a process other than the one that will load it."""
    model = build_model(CONFIG, trusted=["my_package"])
    trainer = toy_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(model, datamodule=toy_data())
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    trainer.save_checkpoint(path)
    for name in ("my_package", "my_package.parts"):
        del sys.modules[name]
    return path


def estimator(model):
    return type(model.bottleneck.estimator).__name__


DOORS = {
    "load_from_checkpoint": CategoricalVAE.load_from_checkpoint,
    "load_checkpoint": lambda path, **trust: load_checkpoint(path, **trust).model,
    "load": dvae.load,
    "load of a run": lambda path, **trust: dvae.load(path.parent.parent, **trust),
    "explore": lambda path, **trust: load_snapshots([path.parent], **trust)[0][0].model,
}


@pytest.mark.parametrize("door", DOORS)
def test_a_checkpoint_is_refused_unless_its_package_is_trusted(door, checkpoint):
    for trusted in ((), ["my_pack"], ["my_package.part"]):
        with pytest.raises(ValueError, match=REFUSED) as caught:
            DOORS[door](checkpoint, trusted=trusted)
        assert "\n" not in str(caught.value)
        assert "my_package" not in sys.modules, "it is not even imported"
    for trusted in (["my_package"], "my_package", ("other", "my_package.parts")):
        model = DOORS[door](checkpoint, trusted=trusted)
        assert estimator(model) == "Mine" and float(model.bottleneck.estimator.tau) == 0.5


def test_a_shared_folder_is_refused_unless_its_package_is_trusted(checkpoint, tmp_path):
    model = dvae.load(checkpoint, trusted=["my_package"])
    with pytest.raises(ValueError, match=REFUSED):
        save_pretrained(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    save_pretrained(model, tmp_path / "m", trusted=["my_package"])
    assert "m\", trusted=['my_package'])" in (tmp_path / "m" / "README.md").read_text()
    for load in (from_pretrained, dvae.load):
        with pytest.raises(ValueError, match=REFUSED):
            load(tmp_path / "m")
        loaded = load(tmp_path / "m", trusted=["my_package"])
        assert estimator(loaded) == "Mine"
        image = torch.rand(3, 1, 6, 6)
        assert torch.equal(loaded.encode(image), model.encode(image))


@pytest.mark.parametrize("command", ["save", "onnx"])
def test_sharing_takes_trusted(command, checkpoint, tmp_path, capsys):
    args = [command, str(checkpoint), "--out", str(tmp_path / "out")]
    assert share(args) == 2
    error = capsys.readouterr().err
    assert "my_package.parts.Mine" in error and "--trusted" in error and error.count("\n") == 1
    assert share([*args, "--trusted", "other", "--trusted", "my_package"]) == 0
    assert any((tmp_path / "out").iterdir())


def test_exploring_takes_trusted_for_the_model_and_for_its_data(checkpoint, monkeypatch, capsys):
    page = pytest.importorskip("dvae.explore.page", reason="gradio is not installed")
    shown = []
    monkeypatch.setattr(page, "make_page", lambda explorer: shown.append(explorer) or _Page())
    monkeypatch.setattr(page, "launch", lambda *args: "http://here")
    config = checkpoint.parent.parent / "config.yaml"
    config.write_text("data: {class_path: my_package.parts.MyImages, init_args: {val_size: 2}}")
    args = ["explore", str(checkpoint), "--port", "7999"]
    assert dvae_command(args) == 2
    error = capsys.readouterr().err
    assert "my_package.parts.Mine" in error and "--trusted" in error and error.count("\n") == 1
    assert dvae_command([*args, "--trusted", "my_package"]) == 0
    assert len(shown) == 1 and "best.ckpt" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"class 'my_package\.parts\.MyImages'.*--trusted"):
        load_gallery((1, 6, 6), checkpoint)
    gallery = load_gallery((1, 6, 6), checkpoint, trusted=["my_package"])
    assert gallery.name == "my images, test split" and gallery.size == 40


class _Page:
    def block_thread(self):
        pass


def test_a_model_class_of_ones_own_is_shared_where_it_is_trusted(package, tmp_path):
    config = {**CONFIG, "class_path": "my_package.parts.MyModel"}
    with pytest.raises(ValueError, match=r"class 'my_package\.parts\.MyModel'.*--trusted"):
        build_model(config)
    model = build_model(config, trusted=["my_package"])
    with pytest.raises(ValueError, match=r"class 'my_package\.parts\.MyModel'.*--trusted"):
        config_of(model)
    save_pretrained(model, tmp_path / "m", trusted=["my_package"])
    assert type(dvae.load(tmp_path / "m", trusted=["my_package"])).__name__ == "MyModel"


@pytest.mark.parametrize(
    ("path", "trusted", "message"),
    [
        ("my_package.parts.torch.Tensor", ["my_package"], "in this environment"),
        ("my_package.parts.GumbelSoftmax", ["my_package"], None),  # dvae's own, by another way
        ("my_package.parts.Missing", ["my_package"], "has no attribute 'Missing'"),
        ("my_packages.Mine", ["my_packages"], "No module named 'my_packages'"),
        ("my_package.parts.torch", ["my_package"], "is refused: it is not a class of"),
    ],
)
def test_trust_in_a_package_is_no_trust_in_what_it_imports(package, path, trusted, message):
    config = {**CONFIG, "init_args": {"bottleneck": CONFIG["init_args"]["bottleneck"]}}
    bottleneck = {"num_latents": 2, "num_codes": 3, "estimator": {"class_path": path}}
    config["init_args"]["bottleneck"] = {
        "class_path": "dvae.bottlenecks.CategoricalBottleneck",
        "init_args": bottleneck,
    }
    if message is None:
        assert estimator(build_model(config, trusted)) == "GumbelSoftmax"
        return
    with pytest.raises(ValueError, match=message):
        build_model(config, trusted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_ones_own_classes_is_trained_encoded_and_compared(
    package, tmp_path, monkeypatch, capsys
):
    # A config that one gives to the command line oneself is trusted as it is.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    data = {"class_path": "my_package.parts.MyImages", "init_args": {"val_size": 8}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": CONFIG, "data": data}))
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    args = ["--trainer.max_epochs=1", "--data.batch_size=8", *quiet]
    assert dvae_command(["fit", "--config", "c.yaml", "--anneal.tau=null", *args]) == 0
    run = tmp_path / "runs" / "c" / "version_0"
    best = run / "checkpoints" / "best.ckpt"
    settings = ["--config", str(run / "config.yaml"), "--ckpt_path", str(best)]
    assert dvae_command(["predict", *settings, "--tokens.folder", "t", *quiet]) == 0
    assert len(Tokens(tmp_path / "t")) == 40
    # What is compared is read and not built, so nothing of it has to be trusted.
    for name in ("my_package", "my_package.parts"):
        del sys.modules[name]
    read = read_run(run)
    assert read.settings["data"] == "my_package.parts.MyImages"
    assert dvae_command(["compare", str(run), "--out", str(tmp_path / "both")]) == 0
    assert "my_package" not in sys.modules
    assert estimator(dvae.load(run, trusted=["my_package"])) == "Mine"
    capsys.readouterr()
