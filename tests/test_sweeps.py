"""Every trial of a wandb sweep is a command line that train.py accepts."""

import itertools
from pathlib import Path

import pytest
import yaml

from dvae.cli import main
from dvae.compare import flatten
from dvae.schedules import Cosine

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs" / "sweeps").rglob("*.yaml"))
DISTRIBUTIONS = {"uniform", "log_uniform_values", "q_uniform", "int_uniform"}


def choices_of(parameter):
    """Return all values of a parameter or, of a range, both ends."""
    if "values" in parameter:
        return parameter["values"]
    assert parameter["distribution"] in DISTRIBUTIONS and parameter["min"] < parameter["max"]
    return [parameter["min"], parameter["max"]]


def trials_of(sweep):
    """Return settings of trials in which each key takes on each of its choices."""
    choices = {name: choices_of(p) for name, p in sweep["parameters"].items()}
    count = max(map(len, choices.values()))
    return [{name: c[n % len(c)] for name, c in choices.items()} for n in range(count)]


def command_line(sweep, settings):
    """Return the command of a trial as wandb's own agent makes it."""
    # Seconds to import, which every process that collects tests would pay.
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {k: {"value": v} for k, v in settings.items()}})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    words = [str(word) for word in create_sweep_command(list(sweep["command"]))]
    return [w for word in words for w in macros.get(word.removeprefix("${")[:-1], [word])]


def printed(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*args, "--print_config"])
    assert stop.value.code in (0, None)
    return flatten(yaml.safe_load(capsys.readouterr().out))


def test_there_are_sweeps():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_key_of_a_sweep_reaches_the_setting_of_its_name(path, monkeypatch, capsys):
    sweep = yaml.safe_load(path.read_text())
    monkeypatch.chdir(ROOT)
    assert sweep["metric"] == {"name": "val/elbo", "goal": "maximize"}
    for settings in trials_of(sweep):
        start, python, program, *args = command_line(sweep, settings)
        assert (start, python, program) == ("/usr/bin/env", "python", "train.py")
        config = printed(args, capsys)
        assert {name: config[name] for name in settings} == settings


@pytest.mark.parametrize("key", ["anneal.tau.finish", "model.optimizer.rate", "anneal.gamma.end"])
def test_a_key_that_the_command_line_does_not_know_is_refused(key, monkeypatch, capsys):
    # What the test above stands on.
    sweep = yaml.safe_load(FILES[0].read_text())
    monkeypatch.chdir(ROOT)
    args = command_line(sweep, {key: 0.5})[3:]
    assert f"--{key}=0.5" in args and main([*args, "--print_config"]) == 2
    assert "error: " in capsys.readouterr().err


def test_every_temperature_schedule_of_the_sweep_moves_and_fits_the_run():
    sweep = yaml.safe_load((ROOT / "configs" / "sweeps" / "annealing.yaml").read_text())
    names = [f"anneal.tau.{name}" for name in ("start", "end", "steps")]
    for start, end, steps in itertools.product(
        *(choices_of(sweep["parameters"][name]) for name in names)
    ):
        schedule = Cosine(start, end, steps)
        assert schedule(0, 1000) == start > end == pytest.approx(schedule(999, 1000))
        assert schedule.length(1000) == round(steps * 1000)


@pytest.mark.slow
def test_a_trial_trains(tmp_path, monkeypatch, capsys):
    sweep = yaml.safe_load(FILES[0].read_text())
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    args = command_line(sweep, trials_of(sweep)[-1])[3:]
    short = [f"--trainer.limit_{name}_batches=1" for name in ("train", "val", "test")]
    short += ["--trainer.max_epochs=1", "--model.evaluation.iwae_samples=2"]
    assert main([*args, *short, f"--trainer.default_root_dir={tmp_path}"]) == 0
    assert (tmp_path / "sweep_annealing" / "version_0" / "metrics.csv").is_file()
    assert "test/elbo" in capsys.readouterr().out
