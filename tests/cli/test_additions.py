"""Parts of Lightning's that people add, beside those of a run."""

import re
import signal

import pytest
import pytorch_lightning as pl
import torch

from tests.watched import NOW, refuses

# What has no length cannot be gone along.
OPEN = ("--anneal.tau=null", "--model.lr_schedule=null")


def test_a_project_that_wandb_refuses_is_said_in_one_line(run, tmp_path, monkeypatch):
    import wandb

    wandb.finish()  # a run that another test left open would be taken, whatever the project
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "team/project")
    refuses(run, tmp_path, "", "wandb refuses its settings: Invalid project name 'team/project'")


OWN = "--trainer.logger=WandbLogger --trainer.logger.save_dir=logs"


@pytest.mark.parametrize("flags", ["--trainer.logger=false", OWN, "--trainer.logger=true"])
def test_whatever_logs_each_run_has_a_folder_and_the_last_one_is_found(flags, run, tmp_path):
    for _ in range(2):
        run(*flags.split())
    done = run(*flags.split(), "--ckpt_path=last", "--trainer.max_epochs=2")
    assert done.steps == 8 and len(done.seen.batches) == 4
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["e"]
    for version in range(3):
        found = {path.name for path in (tmp_path / f"runs/e/version_{version}").iterdir()}
        assert {"config.yaml", "checkpoints", "media"} <= found
        assert ("metrics.csv" in found) == ("false" not in flags)


def test_batches_are_added_up_by_one_rule(run, tmp_path):
    rule = "{class_path: GradientAccumulationScheduler, init_args: {scheduling: {0: 1, 1: 2}}}"
    config = tmp_path.with_suffix(".yaml")
    config.write_text(f"trainer: {{callbacks: [{rule}]}}")
    refuses(run, tmp_path, f"--config={config}", "set trainer.accumulate_grad_batches")


def test_a_validation_may_come_by_time(run):
    done = run('--trainer.val_check_interval={"microseconds":1}')
    assert done.seen.validated_at == [1, 2, 3, 4]


def test_an_operation_that_is_never_deterministic_is_said_in_one_line(run, tmp_path):
    end = f"--trainer.callbacks+={__name__}.Chance"
    done = run("--trainer.deterministic=true", end, expect=2)
    assert "error: put_ has no deterministic version here: set trainer.deterministic" in done.text
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        run("--trainer.deterministic=warn", end)


class Chance(pl.Callback):
    """Do what torch has no deterministic version of, on any device."""

    def on_train_start(self, trainer, model):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))


def test_a_timer_of_the_users_ends_the_run(run):
    timer = '--trainer.callbacks+=Timer --trainer.callbacks.duration={"microseconds":1}'
    done = run(*timer.split(), "--trainer.max_epochs=-1", *OPEN)
    assert done.steps == 1 and done.seen.evaluated["test"] == 1


def test_the_time_limit_leaves_the_seconds_of_training_to_the_summary(run):
    done = run(*NOW.split())
    assert re.search(r"^training +0 seconds$", done.text, re.MULTILINE)
    kept = torch.load(done.files("last.ckpt")[0], weights_only=True)["callbacks"]
    assert 0 < kept["Stopwatch"]["seconds"] < 60


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "RichProgressBar"])
def test_a_progress_bar_of_the_users_takes_the_place_of_ours(bar, run):
    done = run("--trainer.enable_progress_bar=true", f"--trainer.callbacks+={bar}")
    assert type(done.trainer.progress_bar_callback).__name__ == bar


def test_the_settings_reach_whoever_logs_them(run):
    config = dict(run().trainer.loggers[1].experiment.config)
    assert config["model"]["init_args"]["network"]["init_args"]["hidden"] == [4]
    assert config["trainer"]["max_epochs"] == 1


class Terminate(pl.Callback):
    """Ask for an end after the second step."""

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("saves", [True, False])
def test_a_signal_ends_a_run_that_saves_nothing_too(saves, run):
    end = f"--trainer.callbacks+={__name__}.Terminate"
    flags = [] if saves else ["--trainer.enable_checkpointing=false"]
    done = run(end, *flags, expect=128 + signal.SIGTERM)
    assert done.steps == 2 and bool(done.files("last.ckpt")) == saves
    assert ("resume with" in done.text) == saves
    assert ("nothing was saved; begin again with" in done.text) == (not saves)
