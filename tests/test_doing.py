"""What takes long says what it is at, whatever it is: batches, pictures, features, tools."""

import io
import re
import time
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image

import dvae.doing
from dvae.callbacks import LatentInspector, ProgressLines, Reconstructions
from dvae.callbacks.reconstruction_distance import ReconstructionDistance
from dvae.cli import main
from dvae.doing import doing, spoke
from dvae.explore.__main__ import main as explore
from dvae.lab.__main__ import main as lab
from tests.sharing.conftest import best, run  # noqa: F401 (fixtures)
from tests.toy import toy_data, toy_model, toy_trainer

SLOW = 0.3


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A line is due after a twentieth of a second."""
    monkeypatch.setattr(dvae.doing, "EVERY", 0.05)
    monkeypatch.setattr("dvae.callbacks.progress_lines._FIRST", 1e6)


def said(capsys):
    return re.sub(r", \d+ s so far", "", capsys.readouterr().err).splitlines()


def slow(*_, **__):
    time.sleep(SLOW)


def test_the_innermost_is_said_again_and_again_until_it_ends(capsys):
    with doing("outer"):
        slow()
        with doing("inner") as work:
            slow()
            work.now("inner %d of %s", 2, "3")
            slow()
        slow()
    slow()
    lines = said(capsys)
    order = list(dict.fromkeys(lines))
    assert order == ["outer", "inner", "inner 2 of 3"] and lines[-1] == "outer"
    assert 8 <= len(lines) <= 24


def test_seconds_are_those_since_the_beginning(capsys, monkeypatch):
    with doing("100% of it") as work:
        start = time.monotonic()
        monkeypatch.setattr(dvae.doing.time, "monotonic", lambda: start + 40)
        work.now("more of it")
        assert str(work) == "more of it, 40 s so far"


def test_nothing_is_said_where_nothing_takes_long_or_something_else_speaks(capsys, monkeypatch):
    with doing("quick"):
        pass
    monkeypatch.setattr(dvae.doing, "EVERY", 1.0)
    with doing("talkative"):
        for _ in range(30):
            time.sleep(0.05)
            spoke()
    assert not said(capsys)


def test_what_fails_is_silent_from_then_on(capsys):
    with pytest.raises(ValueError, match="broken"), doing("failing"):
        raise ValueError("broken")
    slow()
    assert not said(capsys)


@pytest.mark.parametrize("where", ["terminal", "RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_a_terminal_has_bars_and_one_process_speaks(where, capsys, monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: where == "terminal"
    monkeypatch.setattr("sys.stderr", shown)
    if where != "terminal":
        monkeypatch.setenv(where, "1")
    with doing("work"):
        slow()
    assert not shown.getvalue()


def test_count_says_how_many(capsys):
    with doing("reading") as work:
        assert list(work.count(map(str, range(3)), "images")) == ["0", "1", "2"]
        slow()
    assert set(said(capsys)) == {"reading, 3 images"}


class Slow(pl.Callback):
    def __init__(self, *hooks):
        for hook in hooks:
            setattr(self, hook, slow)


class Distance(ReconstructionDistance):
    def _make_metric(self):
        metric = SimpleNamespace(compute=dict)
        metric.to = lambda device: metric
        return metric

    def on_test_batch_end(self, *_):
        pass

    def _seen(self, image):
        raise AssertionError

    def _named(self, found):
        slow()
        return {}


@pytest.mark.parametrize(
    ("hook", "line"),
    [
        ("setup", "beginning to fit"),
        ("on_train_batch_start", "step 2"),
        ("on_validation_batch_start", "validation: batch 1 of 1"),
        ("on_train_epoch_end", "ending epoch 0"),
        ("on_test_batch_start", "test: batch 1 of 1"),
        ("on_test_epoch_end", "test: batch 1 of 1"),
    ],
)
def test_a_run_says_where_it_is_within_a_batch_and_between_batches(hook, line, tmp_path, capsys):
    callbacks = [ProgressLines(), Slow(hook)]
    trainer = toy_trainer(tmp_path, callbacks=callbacks, max_epochs=1, limit_train_batches=2)
    trainer.fit(toy_model(), toy_data())
    trainer.test(toy_model(), toy_data(), verbose=False)
    assert line in said(capsys)
    slow()
    assert not said(capsys)


def test_what_runs_without_batches_says_what_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dvae.callbacks.reconstructions.labelled_rows", slow_picture)
    monkeypatch.setattr("dvae.models.base.DiscreteVAE.sample", slow_sample)
    monkeypatch.setattr("dvae.callbacks.latents.plot_counts", slow_picture)
    callbacks = [ProgressLines(), Reconstructions(), LatentInspector(parts=["usage"]), Distance()]
    trainer = toy_trainer(tmp_path, callbacks=callbacks, max_epochs=1, limit_train_batches=2)
    trainer.fit(toy_model(), toy_data())
    trainer.test(toy_model(), toy_data(), verbose=False)
    lines = said(capsys)
    assert {
        "drawing reconstructions",
        "drawing samples of the prior",
        "looking into the code: usage",
        "comparing all test images with their reconstructions",
    } <= set(lines)


def slow_picture(*_):
    slow()
    return Image.new("RGB", (8, 8))


def slow_sample(self, count, *_):
    slow()
    return self.decode(self.prior.sample(count))


def test_a_run_that_fails_is_silent(tmp_path, capsys):
    class Fails(pl.Callback):
        def on_train_batch_end(self, *_):
            raise ValueError("broken")

    trainer = toy_trainer(tmp_path, callbacks=[ProgressLines(), Fails()], max_epochs=1)
    with pytest.raises(ValueError, match="broken"):
        trainer.fit(toy_model(), toy_data())
    said(capsys)
    slow()
    assert not said(capsys)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.full((28, 28), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def slowly(monkeypatch, module, name):
    """Have a function take its time."""
    found = import_module(module)  # not by a path, on which a function may hide its module
    before = getattr(found, name)
    monkeypatch.setattr(found, name, lambda *a, **k: (slow(), before(*a, **k))[1])


def test_compression_says_which_images(photos, tmp_path, capsys, monkeypatch):
    slowly(monkeypatch, "dvae.coding.codec", "_sum")
    slowly(monkeypatch, "dvae.sharing.load", "from_pretrained")
    bits, back = tmp_path / "bits", tmp_path / "back"
    assert main(["compress", "mnist", str(photos), "--out", str(bits)]) == 0
    assert {"loading a model", "compressing images 0 to 2 of 3"} <= set(said(capsys))
    slowly(monkeypatch, "dvae.coding.lossy", "pop_codes")
    assert main(["decompress", "mnist", str(bits / "images.dvae"), "--out", str(back)]) == 0
    assert "decompressing images 0 to 2 of 3" in said(capsys)


def test_the_lab_says_what_it_measures(tmp_path, capsys, monkeypatch):
    slowly(monkeypatch, "dvae.lab.run", "measure")
    args = ["--latents", "2", "--codes", "2", "--draws", "6", "--taus", "0.5"]
    assert lab([*args, "--out", str(tmp_path / "lab")]) == 0
    assert {"measuring GumbelSoftmax at tau 0.5", "measuring Reinforce"} <= set(said(capsys))


def test_the_explorer_says_that_it_starts(capsys, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed")

    class Page:
        def block_thread(self):
            slow()
            assert not said(capsys)  # it listens, and need not say so

    monkeypatch.setattr("dvae.explore.page.make_page", lambda _: (slow(), Page())[1])
    slowly(monkeypatch, "dvae.explore.checkpoints", "from_pretrained")
    lines = []
    monkeypatch.setattr("dvae.explore.page.launch", lambda *_: lines.extend(said(capsys)))
    assert explore(["mnist"]) == 0
    assert "starting the explorer" in lines
    assert any(re.fullmatch(r"loading .*mnist", line) for line in lines)


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_a_checkpoint_at_work_says_so(command, best, tmp_path, capsys, monkeypatch):  # noqa: F811
    step = {"validate": "validation", "predict": "predict"}.get(command, command)
    line = {"predict": "prediction"}.get(command, step)
    slowly(monkeypatch, "dvae.cli.training", "check_weights")
    before = getattr(dvae.DiscreteVAE, f"{step}_step")
    monkeypatch.setattr(dvae.DiscreteVAE, f"{step}_step", lambda *a: (slow(), before(*a))[1])
    config = best.parents[1] / "config.yaml"
    args = [command, "--config", str(config), "--ckpt_path", str(best)]
    args += [f"--trainer.limit_{command.replace('validate', 'val')}_batches=1"]
    args += ["--trainer.enable_progress_bar=true"]
    monkeypatch.chdir(tmp_path)
    assert main(args) == 0
    lines = said(capsys)
    assert "reading data and checkpoint" in lines
    assert f"{line}: batch 1 of 1" in lines, lines
