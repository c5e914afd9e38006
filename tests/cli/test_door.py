"""One command has everything behind it, and says what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dvae
from dvae.cli import main
from dvae.cli.configs import config_file, named, names
from dvae.cli.help import _WISHES, OVERVIEW, help_text
from dvae.names import home
from tests.toy import toy_data, toy_model, toy_trainer

CONFIGS = Path(__file__).parents[2] / "configs"


def test_every_config_travels_with_the_package_under_its_name_and_says_what_it_is_for():
    files = {
        path.relative_to(CONFIGS).with_suffix("").as_posix()
        for path in CONFIGS.rglob("*.yaml")
        if "sweeps" not in path.parts
    }
    assert set(names()) == files and len(files) > 20
    for name, what in names().items():
        assert len(what) > 20, name
        assert config_file(name).read_text() == (CONFIGS / f"{name}.yaml").read_text()


def test_a_name_stands_for_the_file_of_a_config_unless_there_is_such_a_file(tmp_path, monkeypatch):
    path = str(config_file("mnist_codebook"))
    assert named(["--config", "mnist_codebook", "--x", "1"]) == ["--config", path, "--x", "1"]
    assert named(["--config=mnist_codebook"]) == [f"--config={path}"]
    assert named(["--config", "other.yaml"]) == ["--config", "other.yaml"]
    monkeypatch.chdir(tmp_path)
    Path("mnist_codebook").write_text("mine")
    assert named(["--config", "mnist_codebook"]) == ["--config", "mnist_codebook"]


def test_a_copy_of_a_config_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["configs", "copy", "mnist_categorical"]) == 0
    copied = Path("mnist_categorical.yaml")
    assert copied.read_text() == config_file("mnist_categorical").read_text()
    copied.write_text("mine")
    assert main(["configs", "copy", "mnist_categorical"]) == 2
    assert copied.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fti"], "there is no command 'fti'; there are: fit, validate"),
        (["fit", "--config", "mnist_categorica"], "did you mean 'mnist_categorical'?"),
        (
            ["fit", "--config", "mnist_categorical", "--lr", "1"],
            "did you mean --model.optimizer.lr",
        ),
        (["fit", "--help.nothing"], "there is no such part; there are: "),
        (["configs", "copy", "zebra"], "there is no config 'zebra': dvae configs lists them"),
    ],
)
def test_what_there_is_not_is_said_in_one_line(args, said, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_help_is_one_screen_and_all_of_it_is_there_on_demand(capsys):
    for args in ([], ["--help"], ["fit", "--help"], ["fit", "-h"]):
        assert main(args) == 0
        assert len(capsys.readouterr().out.splitlines()) <= 40
    assert main(["fit", "--help.all"]) == 0
    everything = capsys.readouterr().out
    assert len(everything.splitlines()) > 300
    for part in ("trainer", "finetune", "anneal"):
        assert main(["fit", f"--help.{part}"]) == 0
        keys = set(re.findall(r"--([\w.]+)", capsys.readouterr().out))
        assert (
            f"{part}.{ {'trainer': 'max_epochs', 'finetune': 'grow', 'anneal': 'tau'}[part] }"
            in keys
        )
        assert all(key.startswith(part) for key in keys if key != "print_config")


def test_the_help_of_a_class_names_what_a_reader_can_look_through(capsys):
    assert main(["fit", "--data.help", "ImageFolder"]) == 0
    said = capsys.readouterr().out
    assert "--data.image_size" in said and "--data.augment" in said
    assert "torch.nn.Bilinear" not in said and said.count("\n") < 100
    assert main(["fit", "--model.help", "CategoricalVAE"]) == 0
    assert "dvae.MaskedPrior" in capsys.readouterr().out  # those of a few are there
    assert main(["fit", "--data.help", "ImageFoldr"]) == 2
    assert "ImageFoldr" in capsys.readouterr().err


def test_every_key_that_the_help_names_is_one(capsys):
    main(["fit", "--help.all"])
    known = set(re.findall(r"--([\w.]+)", capsys.readouterr().out)) | {"help.all", "help.trainer"}
    # Of a class, which only its own help lists.
    of_classes = ("model.", "data.", "anneal.")
    said = help_text("fit", "", lambda: None) + OVERVIEW + " ".join(_WISHES.values())
    for key in re.findall(r"--([\w.]+)", said.replace("ckpt_path RUN", "")):
        key = key.rstrip(".")
        assert key in known or key.startswith(of_classes) or key in ("help", "out", "KEY"), key


def test_the_door_and_the_names_cost_no_lightning():
    code = (
        "import sys, dvae; from dvae import GumbelSoftmax\n"
        "assert 'torch' in sys.modules\n"
        "heavy = {'pytorch_lightning', 'matplotlib', 'wandb', 'gradio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from dvae.cli import main; main(['configs'])\n"
        "assert 'pytorch_lightning' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_is_loaded_from_wherever_it_lies(tmp_path):
    assert "load" in home() and dvae.load is __import__("dvae.sharing").sharing.load
    run = tmp_path / "run"
    assert (
        main(
            [
                *("fit", "--config", "mnist_categorical", "--trainer.max_epochs", "1"),
                *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"),
                *("--trainer.limit_test_batches", "1", "--model.evaluation.iwae_samples", "1"),
                *("--latents.every_n_epochs", "0", "--reconstructions.every_n_epochs", "0"),
                *("--trainer.default_root_dir", str(run), "--trainer.accelerator", "cpu"),
                *("--trainer.enable_progress_bar", "false"),
            ]
        )
        == 0
    )
    folder = run / "mnist_categorical" / "version_0"
    of_run = dvae.load(folder)
    of_file = dvae.load(folder / "checkpoints" / "best.ckpt")
    assert type(of_run) is dvae.CategoricalVAE and not of_run.training
    for name, weight in of_run.state_dict().items():
        assert torch.equal(weight, of_file.state_dict()[name])
    shared = tmp_path / "shared"
    dvae.sharing.save_pretrained(of_run, shared)
    assert type(dvae.load(shared)) is dvae.CategoricalVAE
    with pytest.raises(FileNotFoundError, match="has no model"):
        dvae.load(run)
    with pytest.raises(FileNotFoundError, match=r"the newest run in it is .*version_0$"):
        dvae.load(folder.parent)


def test_a_checkpoint_of_a_foreign_class_is_refused_by_name(tmp_path):
    trainer = toy_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(toy_model(), toy_data())
    path = tmp_path / "foreign.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=False)
    content["hyper_parameters"] = {"_class_path": "elsewhere.Model"}
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"elsewhere\.Model"):
        dvae.load(path)


def test_no_module_takes_the_place_of_what_the_package_shows():
    package = sys.modules["dvae.cli"]
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)  # importing one would hide the other


def test_the_package_run_as_a_module_is_the_command():
    command = [sys.executable, "-m", "dvae", "fit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == help_text("fit", "", lambda: None), done.stderr
