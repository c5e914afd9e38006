"""What `dvae schedule` draws before a run is what the run logs."""

import csv
import math
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

import dvae.cli.schedule
from dvae.cli import main
from tests.watched import BASE

WARM_UP = (
    "{class_path: Sequential, init_args: {parts: ["
    "{class_path: Linear, init_args: {start: 0.1, end: 1.0, steps: 3}}, "
    "{class_path: Cosine, init_args: {start: 1.0, end: 0.2}}]}}"
)
RUN = "runs/e/version_0"
CASES = {
    "the config": (),
    "others": (
        *("--anneal.tau=Exponential", "--anneal.tau.start=2", "--anneal.tau.end=0.5"),
        *("--anneal.beta=Cyclical", "--anneal.beta.start=0.1", "--anneal.beta.end=1"),
        *("--anneal.beta.cycles=3", f"--model.lr_schedule={WARM_UP}"),
    ),
    "a fraction, a number of steps, none": (
        *("--anneal.tau=Linear", "--anneal.tau.start=1", "--anneal.tau.end=0.3"),
        *("--anneal.tau.steps=0.5", "--model.lr_schedule=null"),
        *("--anneal.beta=Linear", "--anneal.beta.start=0", "--anneal.beta.end=2"),
        "--anneal.beta.steps=5",
    ),
    "accumulation, and a limit of steps": (
        *("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=5"),
        *("--trainer.max_epochs=4", f"--model.lr_schedule={WARM_UP}"),
    ),
}


@pytest.fixture
def drawn(monkeypatch):
    """The last figure that was drawn, which is written as well."""
    kept = []
    save = dvae.cli.schedule.save_figure

    def keep(figure, path):
        kept[:] = [figure]
        save(figure, path)

    monkeypatch.setattr(dvae.cli.schedule, "save_figure", keep)
    return kept


def logged():
    """Value of each annealed name at each step of the run."""
    found = defaultdict(dict)
    with Path(RUN, "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name.startswith("anneal/") and value:
                    found[name.removeprefix("anneal/")][int(row["step"])] = float(value)
    return found


@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
def test_a_run_logs_at_each_step_what_was_drawn_before_it(flags, run, tmp_path, drawn, capsys):
    flags = ("--trainer.max_epochs=3", *flags)
    assert main(["schedule", *BASE, *flags, "--out=pictures/s.png"]) == 0
    assert "wrote pictures/s.png" in capsys.readouterr().out
    assert Image.open("pictures/s.png").width > 500
    assert not (tmp_path / "runs").exists()
    done = run(*flags)
    seen = logged()
    names = {"τ": "tau", "β": "beta", "learning rate": "lr"}
    curves = {names[axes.get_ylabel()]: dict(axes.lines[0].get_xydata()) for axes in drawn[0].axes}
    assert set(seen) <= set(curves) and {"tau", "lr"} <= set(seen)
    for name, points in seen.items():
        assert list(points) == list(curves[name]) == list(range(done.steps))
        for step, value in points.items():
            assert math.isclose(value, curves[name][step], rel_tol=1e-6, abs_tol=1e-12), (
                name,
                step,
            )


def test_a_temperature_goes_on_from_that_of_a_checkpoint(run, drawn):
    run("--anneal.tau.end=0.4")
    flags = (f"--init_from={RUN}", "--finetune.temperature=continue")
    assert main(["schedule", *BASE, *flags, "--anneal.tau.end=0.1", "--out=s.png"]) == 0
    tau = next(axes for axes in drawn[0].axes if axes.get_ylabel() == "τ")
    last = list(logged()["tau"].values())[-1]
    assert math.isclose(tau.lines[0].get_ydata()[0], last, rel_tol=1e-6)


def test_a_name_is_enough_and_no_data_are_loaded_for_a_number_of_steps(
    tmp_path, monkeypatch, capsys, drawn
):
    monkeypatch.chdir(tmp_path)
    # Data that are not there: counted in epochs they are missed, in steps they are not.
    missing = ["schedule", "mnist_categorical", f"--data.data_dir={tmp_path}"]
    assert main([*missing, "--trainer.max_epochs=-1", "--trainer.max_steps=100"]) == 0
    assert Path("mnist_categorical_schedule.png").is_file()
    (curve,) = {len(axes.lines[0].get_xdata()) for axes in drawn[0].axes}
    assert curve == 100
    capsys.readouterr()
    assert main(missing) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path) in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["mnist_categorica"], "did you mean 'mnist_categorical'?"),
        (["mnist_categorical", "--anneal.tau.start=-1"], "anneal.tau must be a number > 0; got -1"),
        (
            [
                *("mnist_categorical", "--trainer.max_epochs=-1", "--anneal.tau=null"),
                *("--trainer.max_time={minutes: 1}", "--model.lr_schedule=null"),
            ],
            "a run that ends by the clock has no number of steps",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["schedule", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.strip().count("\n") == 0 and not list(tmp_path.iterdir())


def test_a_tuner_has_the_say_and_that_is_drawn(run, drawn):
    run("--trainer.max_steps=1")  # the folder of the test, and its environment
    assert main(["schedule", *BASE, "--anneal.tau=Tuned", "--out=s.png"]) == 0
    tau = next(axes for axes in drawn[0].axes if axes.get_ylabel() == "τ")
    assert not tau.lines and "tuner" in tau.texts[0].get_text()
