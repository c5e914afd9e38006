"""Resuming on the command line: the best is ours wherever it lies, and a finished run says so."""

import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from dvae.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")
SHORT = [
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--model.network=MLP",
    "--model.network.hidden=[16]",
    "--model.evaluation.iwae_samples=1",
    "--reconstructions.every_n_epochs=0",
    "--latents.every_n_epochs=0",
    # It grows, so that the last epoch is not the best.
    "--model.optimizer.lr=0.001",
    "--model.lr_schedule=Exponential",
    "--model.lr_schedule.start=1",
    "--model.lr_schedule.end=3000",
    "--model.lr_schedule.steps=12",
    "--anneal.tau.steps=12",
]
# The recipe of docs/inspect.md.
EVERY_EPOCH = [
    "--trainer.callbacks+=ModelCheckpoint",
    "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename=epoch{epoch}",
    "--trainer.callbacks.auto_insert_metric_name=false",
]
RUN = Path("runs/first/version_0")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Make a folder with a run of three epochs."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("WANDB_MODE", "disabled")
        args = ["--experiment=first", "--trainer.max_epochs=3"]
        assert main(["fit", "--config", CONFIG, *SHORT, *args, *EVERY_EPOCH]) == 0
    return home


@pytest.fixture
def go_on(home, tmp_path, monkeypatch, capsys):
    """Return what resumes a copy of the run: its output, its errors and the bound of the test."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def go_on(folder, *args):
        code = main(["fit", "--config", str(folder / "config.yaml"), *SHORT, *args])
        out, error = capsys.readouterr()
        assert code == 0, error
        return out, error, re.search(r"^test/elbo +(\S+)", out, re.M)[1]

    return go_on


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.parametrize("command", ["fit", "test"])
def test_the_checkpoint_is_read_and_its_sums_are_checked_once(go_on, monkeypatch, command):
    reads, sums = Counter(), Counter()
    load, check = torch.load, zipfile.ZipFile.testzip

    def counted(file, *args, mmap=None, **kwargs):
        reads[str(file)] += not mmap  # otherwise no tensor is read
        return load(file, *args, mmap=mmap, **kwargs)

    def checked(self):
        sums[str(self.filename)] += 1
        return check(self)

    monkeypatch.setattr(torch, "load", counted)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", checked)
    if command == "fit":
        go_on(RUN, "--ckpt_path=last", "--trainer.max_epochs=4")
    else:
        config = ["--config", str(RUN / "config.yaml"), "--experiment=first"]
        assert main(["test", *config, *SHORT, "--ckpt_path=last"]) == 0
    last, best = (str(RUN / "checkpoints" / name) for name in ("last.ckpt", "best.ckpt"))
    assert (reads[last], sums[last]) == (1, 1)
    assert (reads[best], sums[best]) == ((1, 1) if command == "fit" else (0, 0))


def test_a_finished_run_says_that_nothing_was_left_and_tests_our_best(go_on, caplog):
    assert step(RUN / "checkpoints" / "best.ckpt") < 12
    out, _, _ = go_on(RUN, "--ckpt_path=last")
    last = RUN / "checkpoints" / "last.ckpt"
    said = f"nothing was left to train: {last} is of step 12, where trainer.max_epochs ends the run"
    assert said in caplog.text
    # Not that of the last epoch, which the user's callback takes for the best.
    assert re.search(rf"^checkpoint +{RUN}/checkpoints/best.ckpt$", out, re.M)
    # The run that did nothing has left nothing, and the next one goes on from where it was.
    go_on(RUN, "--ckpt_path=last", "--trainer.max_epochs=4")
    assert step("runs/first/version_2/checkpoints/last.ckpt") == 16


def test_a_run_in_another_place_knows_its_best(go_on, tmp_path, monkeypatch):
    _, _, bound = go_on(RUN, "--ckpt_path=last")
    shutil.move(RUN, tmp_path / "moved")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    last = tmp_path / "moved" / "checkpoints" / "last.ckpt"
    args = (f"--ckpt_path={last}", "--trainer.max_epochs=4", "--trainer.default_root_dir=elsewhere")
    out, _, again = go_on(tmp_path / "moved", *args)
    assert again == bound
    assert "elsewhere/first/version_0/checkpoints/best.ckpt" in out


@pytest.mark.parametrize("max_steps", [6, 8])
def test_a_run_of_so_many_steps_goes_on_to_its_last_epoch(go_on, max_steps):
    epoch = RUN / "checkpoints" / "epoch0.ckpt"
    go_on(RUN, f"--ckpt_path={epoch}", f"--trainer.max_steps={max_steps}")
    version_1 = Path("runs/first/version_1")
    assert step(version_1 / "checkpoints" / "last.ckpt") == max_steps
    go_on(version_1, "--ckpt_path=last", "--trainer.max_steps=-1")
    ours, whole = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        for run in (Path("runs/first/version_2"), RUN)
    )
    assert ours["global_step"] == whole["global_step"] == 12
    for name, weight in whole["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weight), name
