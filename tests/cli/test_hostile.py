"""Files from strangers are read and never executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from dvae.callbacks import SafeCheckpointIO
from dvae.cli import main
from dvae.models import CategoricalVAE

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture(params=["zip", "pickle"])
def planted(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": {"w": torch.zeros(2)}, "callbacks": Malicious()}
    if request.param == "zip":
        torch.save(content, "bad.ckpt")
    else:
        Path("bad.ckpt").write_bytes(pickle.dumps(content, protocol=2))
    yield tmp_path
    assert not Path("executed").exists()


@pytest.mark.parametrize("way", ["resume", "init_from", "test"])
def test_a_checkpoint_is_never_executed(way, planted, capsys):
    option = "--init_from" if way == "init_from" else "--ckpt_path"
    command = "test" if way == "test" else "fit"
    assert main([command, "--config", CONFIG, option, "bad.ckpt"]) == 2
    error = capsys.readouterr().err
    assert "cannot be read safely" in error or "no checkpoint that can be read safely" in error
    assert "Traceback" not in error


def test_the_environment_cannot_switch_it_off(planted, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match="read safely"):
        SafeCheckpointIO().load_checkpoint("bad.ckpt")
    with pytest.raises(ValueError, match="read safely"):
        CategoricalVAE.load_from_checkpoint("bad.ckpt")


def test_last_passes_over_a_malicious_one(planted, capsys):
    folder = planted / "runs" / "mnist_categorical" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    os.rename("bad.ckpt", folder / "last.ckpt")
    assert main(["test", "--config", CONFIG, "--ckpt_path", "last"]) == 2
    assert "there is no good checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["apply", "new"])
def test_a_config_is_never_executed(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(
        f'seed_everything: !!python/object/{kind}:os.system ["touch executed"]\n'
    )
    assert main(["fit", "--config", "bad.yaml"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: ") and "Traceback" not in error
    assert not Path("executed").exists()
