"""The command line writes its files, all or none, and refuses bad input in one line."""

import csv
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from dvae.callbacks import Anneal
from dvae.estimators import GumbelSoftmax
from dvae.lab.__main__ import main
from dvae.lab.problem import function_problem
from dvae.lab.run import run
from dvae.schedules import Tuned
from tests.toy import toy_data, toy_model, toy_trainer

FILES = {
    "bias.png",
    "bias_variance.png",
    "cosine.png",
    "results.csv",
    "results.md",
    "variance.png",
}
SMALL = ["--latents", "2", "--draws", "6", "--taus", "0.5", "1.2"]

pytestmark = pytest.mark.usefixtures("quick")


def read(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "kind",
    [
        ["--function", "cubic", "--logits", "peaked", "--codes", "3"],
        ["--vae", "--images", "3", "--codes", "2"],
    ],
    ids=["function", "vae"],
)
def test_everything_is_written(kind, tmp_path, capsys):
    assert main([*SMALL, *kind, "--out", str(tmp_path / "a" / "b")]) == 0
    folder = tmp_path / "a" / "b"
    assert {path.name for path in folder.iterdir()} == FILES
    rows = read(folder)
    names = {row["estimator"] for row in rows}
    assert {"GumbelSoftmax", "GumbelSoftmax (hard)", "ExactEnumeration"} <= names
    assert ({"DisARM", "ARMS"} <= names) == ("2" in kind)
    assert {row["tau"] for row in rows if row["estimator"] == "ReinMax"} == {"1.2"}
    for row in rows:
        assert math.isfinite(float(row["variance"])) and float(row["time_ratio"]) > 0
        assert row["torch"] == torch.__version__
    (exact,) = (row for row in rows if row["estimator"] == "ExactEnumeration")
    assert float(exact["relative_bias"]) < 1e-4 and float(exact["cosine"]) > 0.9999
    table = (folder / "results.md").read_text()
    assert all(f"`{name}`" in table for name in names)
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 400
    out, _ = capsys.readouterr()
    assert out.count("wrote ") == len(FILES)
    # What is not measured is said, here and there.
    skipped = "DisARM is for binary variables"
    assert (skipped in out) == (skipped in table) == ("DisARM" not in names)


def test_the_tuner_of_a_checkpoint_is_drawn(tmp_path, capsys):
    anneal = Anneal("tau", Tuned(every=2))
    trainer = toy_trainer(tmp_path / "run", max_steps=6, callbacks=[anneal])
    trainer.fit(toy_model(GumbelSoftmax(hard=True), 20, 10), datamodule=toy_data())
    trainer.save_checkpoint(tmp_path / "large.ckpt")  # too large to enumerate
    assert main(["--tuner", str(tmp_path / "large.ckpt"), "--out", str(tmp_path / "lab")]) == 0
    ours, theirs = tmp_path / "lab" / "tuner.png", tmp_path / "run" / "media" / "tuner"
    assert capsys.readouterr().out == f"wrote {ours}\n"
    # The picture of the training itself, at the same step.
    with Image.open(ours) as a, Image.open(theirs / "step_0000006.png") as b:
        assert a.convert("RGB").tobytes() == b.tobytes()


def test_the_same_seed_measures_the_same():
    problem = function_problem("network", "random", 1, 3)
    reports = []
    for ambient in range(2):
        torch.manual_seed(ambient)
        reports.append(run(problem, [0.7], draws=40, seed=5))
    assert [row.stats for row in reports[0].rows] == [row.stats for row in reports[1].rows]


def test_a_plot_that_fails_leaves_the_old_results_whole(tmp_path, monkeypatch):
    def fail(report):
        raise OSError("no space left")

    (tmp_path / "results.csv").write_text("old")
    monkeypatch.setattr("dvae.lab.files.figures", fail)
    assert main([*SMALL, "--out", str(tmp_path)]) == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"results.csv": "old"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--function", "sine"], "invalid choice: 'sine'"),
        (["--function", "cubic", "--vae"], "not allowed with argument"),
        (["--logits", "flat"], "invalid choice: 'flat'"),
        (["--latents", "0"], "latents must be an integer >= 1; got 0"),
        (["--codes", "1"], "codes must be an integer >= 2; got 1"),
        (["--codes", "ten"], "--codes: invalid int value: 'ten'"),
        (["--latents", "20", "--codes", "10"], "10^20 of them are above the limit of 16384"),
        (["--latents", "1000000000"], "above the limit"),
        (["--draws", "1"], "--draws must be an integer >= 2; got 1"),
        (["--taus", "0.5", "-1"], "--taus must be a number > 0; got -1.0"),
        (["--taus", "0"], "--taus must be a number > 0; got 0.0"),
        (["--taus"], "expected at least one argument"),
        (["--seed", "-1"], "--seed must be within [0, 2^32); got -1"),
        (["--images", "3"], "--images is not for this: a function has no images"),
        (["--vae", "--logits", "peaked"], "--logits is not for this"),
        (["--vae", "--images", "0"], "--images must be an integer >= 1; got 0"),
        (["--ckpt", "no.ckpt"], "there is no checkpoint no.ckpt"),
        (["--ckpt", "no.ckpt", "--codes", "3"], "--codes is not for this: the checkpoint has"),
        (["--ckpt", "text.ckpt"], "text.ckpt is no checkpoint that can be read safely"),
        (["--ckpt", "other.ckpt"], "other.ckpt does not say how its model is built"),
        (["--tuner", "no.ckpt"], "there is no checkpoint no.ckpt"),
        (["--tuner", "other.ckpt"], "other.ckpt has no tuner: train with --anneal.tau Tuned"),
        (["--tuner", "other.ckpt", "--vae"], "not allowed with argument"),
        (["--out", "text.ckpt/lab"], "text.ckpt is not a folder"),
        (["--outt", "x"], "unrecognized arguments: --outt x"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_nothing_is_written(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.ckpt").write_text("not a checkpoint")
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, "other.ckpt")
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    assert line.startswith("error: ") and message in line and len(line) < 300
    assert {path.name for path in tmp_path.iterdir()} == {"text.ckpt", "other.ckpt"}
