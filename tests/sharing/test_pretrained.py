"""Shared folders: the same model comes back, nothing foreign is touched, nothing is invented."""

import csv
import json
import math
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.hub_mixin
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from dvae.data import ImageFolder
from dvae.estimators import GumbelSoftmax
from dvae.extras import MissingExtra
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.networks import ResNet
from dvae.sharing import from_pretrained, hub, load_checkpoint, push_to_hub, save_pretrained
from dvae.sharing.__main__ import main
from dvae.sharing.config import build_model, config_of
from tests.toy import toy_data, toy_model, toy_trainer


def node(path, **init_args):
    return {"class_path": f"dvae.{path}", "init_args": init_args}


RESNET = node("networks.ResNet", image_shape=[1, 8, 8], width=8, blocks=1)
CONFIGS = {
    "defaults": node("models.CategoricalVAE"),
    "learned": node(
        "models.categorical_vae.CategoricalVAE",
        network=node("networks.MLP", image_shape=[1, 6, 6], hidden=[8]),
        bottleneck=node(
            "bottlenecks.CategoricalBottleneck",
            num_latents=3,
            num_codes=2,
            estimator=node("estimators.RELAX", num_latents=3, num_codes=2, tau=0.7),
        ),
        objective=node("models.ELBO", beta=0.5),
        prior=node("priors.CategoricalPrior", probs=[0.25, 0.75]),
        evaluation={"iwae_samples": 3, "chunk": 10, "max_states": 5, "seed": 1},
        lr_schedule=node(
            "schedules.Sequential",
            parts=[
                node("schedules.Linear", start=0.1, end=1.0, steps=5),
                node("schedules.Cosine", start=1.0, end=0.0, steps=None),
            ],
        ),
    ),
    "code book": node(
        "models.CodebookVAE",
        network=RESNET,
        bottleneck=node(
            "bottlenecks.DistanceCodebook",
            num_codes=6,
            code_dim=4,
            upkeep={"kmeans": 0, "revive_after": 3, "frozen": False},
        ),
        likelihood=node("likelihoods.DiscretizedLogisticMixture", components=2),
        prior=node("priors.CategoricalPrior", probs=None),
    ),
    "product": node(
        "models.CodebookVAE",
        network=RESNET,
        bottleneck=node("bottlenecks.ProductCodebook", num_codes=6, code_dim=4, parts=2),
        prior=node("priors.CategoricalPrior", probs=None),
    ),
    "residual": node(
        "models.CodebookVAE",
        network=RESNET,
        bottleneck=node("bottlenecks.ResidualCodebook", num_codes=6, code_dim=4, depth=2),
    ),
    "quantizer": node(
        "models.CodebookVAE",
        network=RESNET,
        bottleneck=node("bottlenecks.VQ", num_codes=6, code_dim=4),
    ),
    "diveq": node(
        "models.CodebookVAE",
        network=RESNET,
        bottleneck=node("bottlenecks.DiVeQ", num_codes=6, code_dim=4, variance=0.01),
    ),
}
SMALL = {"width": 8, "depth": 1, "heads": 2}
PRIORS = {
    "MADE": node("priors.MADEPrior", width=4, depth=1),
    "autoregressive": node("priors.AutoregressivePrior", **SMALL),
    "classes": node("priors.AutoregressivePrior", **SMALL, num_classes=3, label_dropout=0.5),
    "masked": node("priors.MaskedPrior", **SMALL, num_classes=2, steps=3, orders=2),
}


def same(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_comes_back_bit_by_bit_without_a_network(name, tmp_path, monkeypatch):
    model = build_model(CONFIGS[name])
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand_like(value) * 0.01)
    monkeypatch.setattr(socket, "socket", None)
    files = save_pretrained(model, tmp_path / "m")
    assert [path.name for path in files] == ["README.md", "config.json", "model.safetensors"]
    loaded = from_pretrained(tmp_path / "m")
    assert same(model, loaded) and loaded.training and type(loaded) is type(model)
    image = torch.rand(3, *model.image_shape)
    assert torch.equal(loaded.encode(image), model.encode(image))
    assert torch.equal(loaded.reconstruct(image), model.reconstruct(image))
    # And it can be shared again.
    save_pretrained(from_pretrained(str(tmp_path / "m")), tmp_path / "again")
    for file in files:
        assert (tmp_path / "again" / file.name).read_bytes().replace(
            b"again", b"m"
        ) == file.read_bytes().replace(b"again", b"m")


@pytest.mark.parametrize("of", ["defaults", "code book", "quantizer"])
@pytest.mark.parametrize("name", PRIORS)
def test_a_learned_prior_comes_back_and_its_card_shows_samples(name, of, tmp_path):
    config = {**CONFIGS[of], "init_args": CONFIGS[of]["init_args"] | {"prior": PRIORS[name]}}
    model = build_model(config)
    for value in model.prior.state_dict().values():
        value.add_(torch.rand_like(value))
    files = save_pretrained(model, tmp_path / "m", {"val/prior_bits_per_token": 1.257})
    names = ["README.md", "config.json", "model.safetensors", "samples.png"]
    assert [path.name for path in files] == names
    loaded = from_pretrained(tmp_path / "m").eval()
    assert same(model, loaded)
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    classes = model.prior.num_classes
    label = classes - 1 if classes else None
    drawn, again = (m.sample(3, g, label) for m, g in zip((model, loaded), noise, strict=True))
    assert torch.equal(drawn, again)
    code = torch.randint(model.num_codes, (5, *model.index_shape))
    assert torch.equal(model.eval().prior.log_prob(code), loaded.prior.log_prob(code))
    card = files[0].read_text()
    kind = type(model.prior).__name__
    uniform = math.log2(model.num_codes)
    assert f"`{kind}({model.prior.extra_repr()})`: bits an integer 1.26 in val" in card
    assert f"where a uniform prior takes {uniform:.3g}." in card
    assert ("a class a column](samples.png)" in card) == bool(classes)
    assert f"model.sample(16{', label=0' if classes else ''})" in card
    width, height = Image.open(files[-1]).size
    columns = classes or 12
    assert columns * 56 < width < columns * 60 + 120 and 3 * 56 < height < 3 * 60 + 10


def test_a_checkpoint_of_a_loaded_model_is_one_of_the_command_line(tmp_path):
    model = build_model(CONFIGS["learned"])
    save_pretrained(model, tmp_path / "m")
    trainer = toy_trainer(tmp_path, max_steps=2)
    model = from_pretrained(tmp_path / "m")
    trainer.fit(model, datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert same(loaded.model, model) and loaded.figures == {} and loaded.data == ""
    assert same(CategoricalVAE.load_from_checkpoint(tmp_path / "a.ckpt"), model)


REFUSED = [
    "os.system",
    "evil.Thing",
    "torch.optim.AdamW",
    "tests.toy.toy_model",
    "dvae.cli.training.DVAECLI",
    "dvae.data.MNIST",
    "dvae.sharing.hub.SharedModel",
    "dvae.models.base.torch",
    "dvae.models.base.Tensor",
    "dvae.runs.checkpoints.read_checkpoint",
    "dvae.models",
    "dvae.networks.base.Network",
    "dvae.networks.Missing",
    "dvae.models.missing.Thing",
    7,
    None,
]
PLACES = [
    lambda bad: bad,
    lambda bad: node("models.CategoricalVAE", network=bad),
    lambda bad: node("models.CategoricalVAE", optimizer=bad),
    lambda bad: node(
        "models.CategoricalVAE", bottleneck=node("bottlenecks.CategoricalBottleneck", estimator=bad)
    ),
    lambda bad: node(
        "models.CategoricalVAE", lr_schedule=node("schedules.Sequential", parts=[bad])
    ),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", REFUSED)
def test_a_foreign_class_is_refused_by_name_and_not_even_imported(
    path, place, tmp_path, monkeypatch
):
    (tmp_path / "evil.py").write_text("open('boom', 'w')\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_pretrained(CategoricalVAE(), tmp_path / "m")
    config = place({"class_path": path, "init_args": {}})
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"class '?{path}'? ") as error:
        from_pretrained(tmp_path / "m")
    assert "\n" not in str(error.value)
    assert "evil" not in sys.modules and not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config.json of .* describes no model"),
        ({"model": 1}, "no class_path"),
        (node("networks.MLP"), "dvae.networks.MLP is no model"),
        (node("models.CategoricalVAE", latents=3), "CategoricalVAE has no setting 'latents'"),
        (node("models.CategoricalVAE") | {"x": 1}, "CategoricalVAE has no setting 'x'"),
        (node("models.CategoricalVAE", network="evil.Thing"), "CategoricalVAE do not fit"),
        (node("models.CategoricalVAE", network={"hidden": [3]}), "written as class_path"),
        (node("models.CategoricalVAE", network=node("networks.MLP", hidden=[0])), "MLP.hidden"),
        ({"class_path": "dvae.models.CategoricalVAE", "init_args": [3]}, "must have names"),
        (node("models.CodebookVAE"), "is of another model"),
    ],
)
def test_a_wrong_config_is_said_in_one_line(config, message, tmp_path):
    save_pretrained(CategoricalVAE(), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as error:
        from_pretrained(tmp_path / "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_damaged_or_missing_is_named(name, tmp_path):
    save_pretrained(toy_model(), tmp_path / "m", config=CONFIGS_OF_TOY)
    path = tmp_path / "m" / name
    content = path.read_bytes()
    for size in (0, 5, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"{name}.* is cut short or damaged"):
            from_pretrained(tmp_path / "m")
    path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=f"has no {name}"):
        from_pretrained(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"there is no folder \./nowhere"):
        from_pretrained("./nowhere")


CONFIGS_OF_TOY = node(
    "models.CategoricalVAE",
    network=node("networks.MLP", image_shape=[1, 6, 6], hidden=[16]),
    bottleneck=node("bottlenecks.CategoricalBottleneck", num_latents=3, num_codes=3),
)


def nameless_model():
    """Make a model of a part that no import finds."""

    class Mine(GumbelSoftmax):
        pass

    return toy_model(Mine(0.7))


def test_a_model_of_parts_needs_its_settings_and_they_must_be_its_own(tmp_path):
    with pytest.raises(ValueError, match="settings of bottleneck are not known"):
        save_pretrained(nameless_model(), tmp_path / "m")
    with pytest.raises(ValueError, match="the config describes another model"):
        save_pretrained(toy_model(latents=4), tmp_path / "m", config=CONFIGS_OF_TOY)
    assert not list(tmp_path.iterdir())
    model = toy_model()
    save_pretrained(model, tmp_path / "m", config=CONFIGS_OF_TOY)
    assert same(from_pretrained(tmp_path / "m"), model)


def test_a_class_of_ones_own_cannot_be_shared(tmp_path):
    class Mine(CategoricalVAE):
        pass

    with pytest.raises(ValueError, match=r"the class '.*test_pretrained.*Mine' is refused"):
        save_pretrained(Mine(), tmp_path / "m")


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "README.md").write_text("mine")
    with pytest.raises(ValueError, match="m is not empty: choose another folder"):
        save_pretrained(CategoricalVAE(), tmp_path / "m")

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(hub, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(CategoricalVAE(), tmp_path / "n")
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "README.md"]


# The figures


def table(card):
    rows = [line.split("|") for line in card.splitlines() if line.startswith("| `")]
    return {row[1].strip(" `"): float(row[2]) for row in rows}


def test_the_card_has_the_figures_of_the_run_and_no_others(run, best, tmp_path):
    assert main(["save", str(best), "--out", str(tmp_path / "m")]) == 0
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    val = max((row for row in rows if row["val/elbo"]), key=lambda row: float(row["val/elbo"]))
    test = next(row for row in rows if row["test/elbo"])
    expected = {k: float(v) for k, v in val.items() if k.startswith("val/") and v}
    expected |= {k: float(v) for k, v in test.items() if k.startswith("test/") and v}
    card = (tmp_path / "m" / "README.md").read_text()
    assert table(card) == pytest.approx(expected, rel=1e-3)
    assert "Data: MNIST, binarization none." in card and "4 integers of 5 categories" in card


def test_the_test_of_the_best_is_not_that_of_another_checkpoint(run, best, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert not any(
        name.startswith("test/") for name in load_checkpoint(folder / "last.ckpt").figures
    )
    assert load_checkpoint(folder / "best.ckpt").figures["test/elbo"] < 0
    # A checkpoint of a step that was not validated.
    content = torch.load(folder / "last.ckpt", weights_only=True)
    torch.save(content | {"global_step": 33}, folder / "other.ckpt")
    assert load_checkpoint(folder / "other.ckpt").figures == {}
    shutil.copy(best, tmp_path / "alone.ckpt")
    source = load_checkpoint(tmp_path / "alone.ckpt")
    assert source.figures == {} and source.data == "MNIST, binarization none"
    save_pretrained(source.model, tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert not table(card) and "No figures were recorded for these weights" in card
    assert "The data set was not recorded" in card


def test_given_figures_are_in_the_card(tmp_path):
    save_pretrained(CategoricalVAE(), tmp_path / "m", {"test/elbo": -100.2}, "MNIST")
    card = (tmp_path / "m" / "README.md").read_text()
    assert table(card) == {"test/elbo": -100.2} and "Data: MNIST." in card


def test_the_card_has_licence_pictures_and_protocol_where_they_are_asked_for(run, best, tmp_path):
    step = torch.load(best, weights_only=True)["global_step"]
    drawn = run / "media" / "reconstructions" / f"step_{step:07d}.png"
    args = ["save", str(best), "--license", "cc-by-4.0", "--reconstructions"]
    assert main([*args, "--out", str(tmp_path / "m")]) == 0
    card = (tmp_path / "m" / "README.md").read_text()
    assert ModelCard(card).data.license == "cc-by-4.0" and "Licence: cc-by-4.0." in card
    assert "(reconstructions.png)" in card
    assert (tmp_path / "m" / "reconstructions.png").read_bytes() == drawn.read_bytes()
    assert "at hard codes, drawn from q(z given x), and `iwae` is the bound of 2 draws." in card
    # Images of the data are given away on request alone, and a licence is not made up.
    assert main(["save", str(best), "--out", str(tmp_path / "n")]) == 0
    card = (tmp_path / "n" / "README.md").read_text()
    assert "license" not in card and "No licence was given." in card
    assert "reconstructions.png" not in {path.name for path in (tmp_path / "n").iterdir()}


def test_what_the_card_cannot_say_is_refused_before_anything_is_written(best, tmp_path, capsys):
    out = str(tmp_path / "m")
    assert main(["save", str(best), "--license", "the MIT licence", "--out", out]) == 2
    assert "license must be an identifier such as mit; got 'the MIT" in capsys.readouterr().err
    shutil.copy(best, alone := tmp_path / "alone.ckpt")
    assert main(["save", str(alone), "--reconstructions", "--out", out]) == 2
    assert "alone.ckpt has no run beside it that drew" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="there is no picture nowhere.png"):
        save_pretrained(CategoricalVAE(), out, picture="nowhere.png")
    assert not Path(out).exists()


def test_what_was_trained_on_tokens_was_measured_on_their_images(best, tmp_path):
    content = torch.load(best, weights_only=True)
    images = {"class_path": "dvae.data.FashionMNIST", "init_args": {"binarization": "fixed"}}
    saved = {"_class_path": "dvae.data.TokenData", "folder": "t", "images": images}
    content["datamodule_hyper_parameters"] = saved
    torch.save(content, tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt").data == "FashionMNIST, binarization fixed"


def test_a_folder_of_images_is_called_by_its_name(tmp_path):
    folder = tmp_path / "my.photos"
    folder.mkdir()
    for n in range(4):
        Image.new("RGB", (6, 6), (60 * n, 0, 0)).save(folder / f"{n}.png")
    data = ImageFolder(str(folder), image_size=6, batch_size=2)
    data.hparams["_class_path"] = "dvae.data.ImageFolder"  # as the command line does
    network = node("networks.MLP", image_shape=[3, 6, 6], hidden=[8])
    model = build_model(node("models.CategoricalVAE", network=network))
    trainer = toy_trainer(tmp_path, max_steps=1)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    # Its name, and not where it lies.
    said = load_checkpoint(tmp_path / "a.ckpt").data
    assert said == "image folder my.photos, binarization none"


# The Hub


def test_what_is_uploaded_is_what_is_saved(best, tmp_path, monkeypatch, capsys):
    calls = []

    class FakeApi:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private=None, exist_ok=False):
            calls.append(("create", repo_id, private))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **kwargs):
            calls.append(("upload", repo_id, kwargs["repo_type"]))
            shutil.copytree(folder_path, tmp_path / "hub")
            return "https://address/of/the/commit"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", FakeApi)
    assert main(["push", str(best), "--repo", "user/name", "--private"]) == 0
    assert capsys.readouterr().out == "https://address/of/the/commit\n"
    assert calls == [("create", "user/name", True), ("upload", "user/name", "model")]
    source = load_checkpoint(best)
    save_pretrained(source.model, tmp_path / "name", source.figures, source.data)
    names = {path.name for path in (tmp_path / "hub").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors"}
    for name in names:
        saved = (tmp_path / "name" / name).read_text("latin1")
        uploaded = (tmp_path / "hub" / name).read_text("latin1")
        assert uploaded.replace("user/name", "name") == saved

    # And back: the Hub hands out the files one by one.
    asked = []

    def download(repo_id, filename, revision=None, **kwargs):
        asked.append((repo_id, filename, revision))
        return str(tmp_path / "hub" / filename)

    monkeypatch.setattr(
        huggingface_hub.hub_mixin, "hf_hub_download", lambda **kw: download(**kw), raising=True
    )
    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert same(from_pretrained("user/name", revision="v1"), source.model)
    assert asked == [("user/name", n, "v1") for n in ("config.json", "model.safetensors")]


def test_a_python_model_is_pushed_with_its_config_or_not_at_all(monkeypatch):
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", None)
    with pytest.raises(ValueError, match="settings of bottleneck are not known"):
        push_to_hub(nameless_model(), "user/name")


# The command line


@pytest.mark.parametrize("command", ["save", "onnx"])
def test_bad_input_is_one_line(command, best, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toy = toy_trainer(tmp_path, max_steps=1)
    toy.fit(nameless_model(), datamodule=toy_data())
    toy.save_checkpoint("python.ckpt")
    content = torch.load(best, weights_only=True)
    torch.save(content | {"state_dict": {"net.weight": torch.zeros(2)}}, "other.ckpt")
    foreign = content["hyper_parameters"] | {"_class_path": "os.system"}
    torch.save(content | {"hyper_parameters": foreign}, "foreign.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(best.read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    cases = {
        "none.ckpt": "there is no checkpoint none.ckpt",
        "python.ckpt": "it was made in Python",
        "other.ckpt": "other.ckpt is not of the model that it names",
        "foreign.ckpt": "the class 'os.system' is refused",
        "cut.ckpt": "cut.ckpt is cut short or damaged",
        "empty": "empty is no shared model: it has no config.json",
    }
    for source, message in cases.items():
        assert main([command, source, "--out", "out"]) == 2
        err = capsys.readouterr().err.strip().splitlines()[-1]
        assert err.startswith("error: ") and message in err and len(err) < 400
    assert not (tmp_path / "out").exists()
    assert main([command, str(best)]) == 2
    assert "--out" in capsys.readouterr().err


def test_without_the_extra_it_is_named(best, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r'needs huggingface_hub: pip install "dvae\[share\]"'):
        from_pretrained("user/name")
    assert main(["save", str(best), "--out", str(tmp_path / "m")]) == 2
    assert 'pip install "dvae[share]"' in capsys.readouterr().err


def test_the_settings_are_those_of_the_command_line(best):
    config = config_of(load_checkpoint(best).model)
    assert config["class_path"] == "dvae.models.CategoricalVAE"
    assert config["init_args"]["bottleneck"]["init_args"]["num_codes"] == 5
    assert "optimizer" not in config["init_args"]
    assert isinstance(build_model(config), CategoricalVAE)
    assert config_of(CodebookVAE())["init_args"]["network"] is None
    made = config_of(CodebookVAE(ResNet((1, 8, 8), width=8, blocks=1)))
    assert made["init_args"]["network"]["init_args"]["image_shape"] == [1, 8, 8]
