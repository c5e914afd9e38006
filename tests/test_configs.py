"""Every YAML in configs/ goes through a real short run of the command line."""

import csv
import gzip
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torchvision import datasets

from dvae.cli import main
from dvae.data import FashionMNIST
from dvae.models import CategoricalVAE

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(
    # A sweep is no run; tests/test_sweeps.py has them.
    p
    for p in CONFIGS.rglob("*.yaml")
    if "sweeps" not in p.relative_to(CONFIGS).parts
)

SHORT = [
    "--trainer.limit_train_batches=3",
    "--trainer.max_epochs=1",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--model.evaluation.iwae_samples=2",
]


def fake_fashion(folder):
    """Write images with the layout of Fashion-MNIST, so that nothing is downloaded."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 60000), ("t10k", 10000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 8:20, 8:20] = generator.integers(0, 256, (count, 1, 1), np.uint8)
        labels = generator.integers(0, 10, count, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim])
            header += b"".join(size.to_bytes(4, "big") for size in array.shape)
            path = folder / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes(), 1))


def fake_cifar10(folder):
    """Write images in the layout of CIFAR-10, without the checksums of the real ones."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in (("train", 40), ("test", 8)):
        pixels = generator.integers(0, 256, (count, 3072), np.uint8)
        content = {"data": pixels, "labels": [0] * count}
        (folder / split).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": ["a"]}))


def fake_images(folder):
    """Write image files."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(50):
        pixels = generator.integers(0, 256, (70, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


def arguments_for(path, tmp_path):
    args = ["fit", "--config", str(path), *SHORT]
    config = yaml.safe_load(path.read_text())
    if path.parent.name == "estimators":
        args.append("--latents.every_n_epochs=0")  # The same look for all of them.
    if config.get("model", {}).get("class_path") == "CodebookVAE":
        args += ["--data.batch_size=8", "--data.val_size=8"]
    data = config.get("data", {}).get("class_path")
    if data == "CIFAR10":
        fake_cifar10(tmp_path / "cifar" / "cifar-10-batches-py")
        args.append(f"--data.data_dir={tmp_path / 'cifar'}")
    if "Perceptual" in path.read_text():
        pytest.importorskip("efficientnet_lite_pytorch")
    if data == "ImageFolder":
        fake_images(tmp_path / "images")
        args.append(f"--data.data_dir={tmp_path / 'images'}")
    if data == "FashionMNIST":
        fake_fashion(tmp_path / "fashion")
        args.append(f"--data.data_dir={tmp_path / 'fashion'}")
    return args


def test_there_are_configs():
    assert len(FILES) >= 11


def named(path):
    """Name a config; slow are large networks on colour images, and the many like the default."""
    like_the_default = path.parent.name == "estimators"
    large = path.stem in ("imagefolder", "tokenizer") or path.stem.startswith("cifar10")
    marks = [pytest.mark.slow] if large or like_the_default else []
    if not like_the_default:
        marks.append(pytest.mark.curves)
    return pytest.param(path, id=str(path.relative_to(CONFIGS)), marks=marks)


@pytest.mark.parametrize("path", [named(path) for path in FILES])
def test_config_is_small_and_runs(path, tmp_path, monkeypatch, capsys):
    assert len(path.read_text().splitlines()) <= 50
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    # The stand-in images have another checksum than the real ones.
    monkeypatch.setattr(FashionMNIST, "files", replace(FashionMNIST.files, md5=None))
    for name in ("train", "test"):
        monkeypatch.setattr(datasets.CIFAR10, f"{name}_list", [[name, None]])
    meta = {"filename": "meta", "key": "label_names", "md5": None}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    code = main(arguments_for(path, tmp_path))
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "test/elbo" in out and "wandb sync" not in out
    run = tmp_path / "runs" / path.stem / "version_0"
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (run / name).is_file(), name
    assert (run / "media" / "curves.png").is_file()
    with (run / "metrics.csv").open() as file:
        names = set(csv.DictReader(file).fieldnames)
    expected = {
        *(f"train/{n}" for n in ("loss", "elbo", "kl", "reconstruction")),
        *(f"val/{n}" for n in ("elbo", "kl", "reconstruction", "elbo_relaxed")),
        *(f"val/{n}" for n in ("relaxation_gap", "perplexity", "usage")),
        *(f"test/{n}" for n in ("elbo", "iwae", "bits_per_dim")),
    }
    if "PriorLikelihood" in path.read_text():
        expected -= {"train/reconstruction", "train/elbo"}  # nothing is decoded
    if "PenalisedELBO" in path.read_text():
        # Nothing is a bound; the discriminator's turn comes later.
        expected = (expected - {"train/elbo"}) | {"train/perceptual", "test/frechet_lite1"}
    assert expected <= names


def test_the_life_of_a_run(tmp_path, monkeypatch, capsys):
    """Train, test from what the run left behind, resume, fine-tune, load in Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = CONFIGS / "mnist_categorical.yaml"
    assert main(["fit", "--config", str(config), *SHORT, "--anneal.tau.end=0.3"]) == 0
    run = Path("runs/mnist_categorical/version_0")
    best = str(run / "checkpoints" / "best.ckpt")

    # The run's own config is enough, and the annealed temperature is in the checkpoint.
    assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", best]) == 0
    model = CategoricalVAE.load_from_checkpoint(best)
    assert model.encode(torch.rand(2, 1, 28, 28)).shape == (2, 20)
    assert model.bottleneck.estimator.tau < 1.0

    longer = [*SHORT, "--trainer.max_epochs=2"]
    assert main(["fit", "--config", str(config), *longer, "--ckpt_path", best]) == 0
    second = Path("runs/mnist_categorical/version_1")
    last = torch.load(second / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6

    monkeypatch.setattr(FashionMNIST, "files", replace(FashionMNIST.files, md5=None))
    fashion = CONFIGS / "finetune_fashion.yaml"
    capsys.readouterr()
    assert main([*arguments_for(fashion, tmp_path), "--init_from", best]) == 0
    assert "loaded" in capsys.readouterr().out
    tuned = torch.load("runs/finetune_fashion/version_0/checkpoints/last.ckpt", weights_only=True)
    assert tuned["global_step"] == 3


def test_flags_win_over_the_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    args = ["--config", str(CONFIGS / "mnist_categorical.yaml"), *SHORT]
    assert main(["fit", *args]) == 0
    best = "runs/mnist_categorical/version_0/checkpoints/best.ckpt"
    assert (
        main(
            [
                "test",
                *args[:2],
                "--ckpt_path",
                best,
                "--trainer.limit_test_batches=1",
                "--model.evaluation.iwae_samples=7",
            ]
        )
        == 0
    )
    # 7 samples a row, and rows in groups: the config is the user's, not the checkpoint's.
    assert "test/iwae" in capsys.readouterr().out
