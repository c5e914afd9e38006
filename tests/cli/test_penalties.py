"""Penalties in a config: a run, what is logged, and a checkpoint that loads."""

import pytest
import torch

from dvae import load
from dvae.models import PenalisedELBO
from tests.watched import refuses

TERM = '{"class_path":"Adversarial","init_args":{"width":8,"layers":1,"channels":%s}}'
OBJECTIVE = ["--model.objective=PenalisedELBO", f"--model.objective.penalties=[{TERM % 1}]"]
LATE = (
    '--trainer.callbacks+={"class_path":"Anneal","init_args":{"target":"adversarial.weight",'
    '"schedule":{"class_path":"Sequential","init_args":{"parts":['
    '{"class_path":"Constant","init_args":{"value":0,"steps":2}},'
    '{"class_path":"Constant","init_args":{"value":0.5}}]}}}}'
)


def test_it_starts_late_and_is_loaded(run):
    done = run(*OBJECTIVE, LATE)
    losses = [row["train/discriminator"] for row in done.rows if row["train/loss"]]
    assert [bool(loss) for loss in losses] == [False, False, True, True]
    assert not any(row.get("train/elbo") for row in done.rows)
    assert any(row["val/elbo"] for row in done.rows)
    (best,) = done.files("best.ckpt")
    model = load(best)
    assert isinstance(model.objective, PenalisedELBO)
    assert float(model.objective.terms["adversarial"].weight) == 0.5
    assert model.reconstruct(torch.rand(2, 1, 6, 6)).shape == (2, 1, 6, 6)


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (TERM % 3, "Adversarial.channels must be 1, those of the images; got 3"),
        ('{"class_path":"Perceptual"}', "Perceptual needs images of 1 or 3 channels and at least"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, penalty, message):
    penalties = f"--model.objective.penalties=[{penalty}]"
    refuses(run, tmp_path, f"--model.objective=PenalisedELBO {penalties}", message)
