"""A full disk: one line that names the place, and no half of a file."""

import os
from pathlib import Path

import pytest

from dvae.cli import DVAECLI, main
from dvae.cli.config_file import SaveConfig
from dvae.runs.files import check_room
from tests.toy import toy_model, toy_trainer

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")


class Parser:
    def dump(self, config, skip_none):
        assert not skip_none
        return f"seed: {config}\n"


def full(_):
    raise OSError(28, "No space left on device")


def save(tmp_path):
    trainer = toy_trainer(tmp_path)
    SaveConfig(Parser(), 3, save_to_log_dir=False).setup(trainer, toy_model(), "fit")


def test_the_config_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=f"cannot write {path}: No space left on device"):
            save(tmp_path)
    assert not list(tmp_path.iterdir())
    save(tmp_path)
    assert path.read_text() == "seed: 3\n"
    with pytest.raises(FileExistsError, match="is that of another run"):
        save(tmp_path)


def test_a_run_does_not_begin_on_a_full_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    assert main(["fit", "--config", CONFIG]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: cannot write to runs/mnist_categorical/version_0: No space left")
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="cannot write to .*: Not a directory; make room, or choose"):
        check_room(tmp_path / "runs" / "x" / "version_0")
    check_room(tmp_path / "other" / "version_0")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_former_config_means_what_it_meant(tmp_path):
    former = "{data_dir: photos, flip: true, skip_unreadable: true, augment: [%s]}"
    crop = "{class_path: torchvision.transforms.v2.CenterCrop, init_args: {size: 28}}"
    text = f"data: {{class_path: ImageFolder, init_args: {former % crop}}}"
    (tmp_path / "former.yaml").write_text(text)
    given = {}

    class Look(DVAECLI):
        def before_instantiate_classes(self):
            given.update(self._given.data.init_args.as_dict())
            raise ValueError("as planned")

    main(["fit", "--config", CONFIG, "--config", str(tmp_path / "former.yaml")], Look)
    assert given["pixels"] == {"background": "white", "bits": None, "skip_unreadable": True}
    names = [part["class_path"].rpartition(".")[2] for part in given["augment"]]
    assert names == ["CenterCrop", "RandomHorizontalFlip"]
