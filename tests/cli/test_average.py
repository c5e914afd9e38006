"""The key that averages the weights."""

import pytest
import torch

from dvae import load
from tests.watched import refuses


def test_by_one_key_the_best_is_loaded_averaged(run):
    averaged = run("--ema=0.9")
    (best,) = averaged.files("best.ckpt")
    content = torch.load(best, weights_only=True)
    name = "encoder.1.weight"
    weight = load(best).state_dict()[name]
    assert torch.equal(weight, content["state_dict"][name])
    assert not torch.equal(weight, content["current_model_state"][name])
    assert torch.equal(averaged.trainer.lightning_module.state_dict()[name].cpu(), weight)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--ema=1", "ema must be > 0 and < 1, or null for none; got 1"),
        (
            "--ema=0.9 --trainer.callbacks+=EMAWeightAveraging",
            "ema must be null beside a WeightAveraging in trainer.callbacks",
        ),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, flags, message):
    refuses(run, tmp_path, flags, message)
