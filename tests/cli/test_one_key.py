"""Another bottleneck is a change of one key of a configuration."""

from pathlib import Path

import pytest

from dvae.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_codebook.yaml")
SHORT = [
    *("--trainer.limit_train_batches=2", "--trainer.max_epochs=1", "--latents.every_n_epochs=0"),
    *("--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"),
    *("--trainer.logger=false", "--trainer.enable_progress_bar=false", "--data.batch_size=32"),
]


@pytest.mark.parametrize("kind", ["FSQ", "VQ", "DiVeQ", "DistanceCodebook", "ResidualCodebook"])
def test_a_bottleneck_is_a_change_of_one_key(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", CONFIG, "--model.bottleneck", kind, *SHORT]) == 0
    assert "test/psnr" in capsys.readouterr().out
