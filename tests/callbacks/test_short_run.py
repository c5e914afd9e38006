"""A run of a few steps is logged too, which a folder of some hundred photographs makes."""

import csv
from types import SimpleNamespace

import pytest

from dvae.callbacks import ShortRun
from dvae.cli import main


@pytest.mark.parametrize(("steps", "every"), [(6, 1), (40, 4), (499, 49), (5000, 50), (None, 50)])
def test_a_run_is_logged_ten_times_or_at_every_fiftieth_step(steps, every):
    trainer = SimpleNamespace(log_every_n_steps=50)
    ShortRun().on_train_start(trainer, SimpleNamespace(run_steps=steps))
    assert trainer.log_every_n_steps == every


def test_a_short_run_of_the_command_line_has_values_of_the_training(tmp_path):
    short = [
        *("fit", "--config", "mnist_categorical", "--trainer.max_epochs", "2"),
        *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"),
        *("--trainer.limit_test_batches", "1", "--model.evaluation.iwae_samples", "1"),
        *("--latents.every_n_epochs", "0", "--reconstructions.every_n_epochs", "0"),
        *("--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.logger", "[]"),
    ]
    assert main(short) == 0
    assert main([*short, "--trainer.log_every_n_steps", "3"]) == 0
    steps = []
    for version in (0, 1):
        with (tmp_path / "mnist_categorical" / f"version_{version}" / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("train/elbo")]
        assert all(row["anneal/tau"] and row["anneal/lr"] for row in rows)
        steps.append([int(row["step"]) for row in rows])
    assert steps == [[0, 1, 2, 3], [2]]  # what the user says holds
