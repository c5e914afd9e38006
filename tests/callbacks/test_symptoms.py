import logging
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from dvae.callbacks import StartAtMean, Symptoms
from tests.toy import toy_data, toy_model, toy_trainer


def see(callback, *bounds, perplexity=2.0):
    """Show the callback validations with bounds of hard and of relaxed codes."""
    for step, (hard, relaxed) in enumerate(bounds):
        found = {
            "val/elbo": hard,
            "val/elbo_relaxed": relaxed,
            "val/relaxation_gap": relaxed - hard,
            "val/perplexity": perplexity,
        }
        state = SimpleNamespace(fn="fit")
        trainer = SimpleNamespace(
            callback_metrics={name: torch.tensor(value) for name, value in found.items()},
            sanity_checking=False,
            global_step=step,
            state=state,
        )
        callback.on_validation_end(trainer, None)


PARTED = [(-100.0, -90.0), (-102.0, -85.0), (-104.0, -80.0), (-106.0, -75.0), (-108.0, -70.0)]


def test_bounds_that_part_are_said_once(caplog):
    see(Symptoms(), *PARTED)
    (line,) = caplog.messages
    assert "since step 0" in line and "from -100.0 to -106.0" in line and "-75.0" in line


@pytest.mark.parametrize(
    "bounds",
    [
        [(-100.0 + n, -90.0 + 2 * n) for n in range(6)],  # both rise
        [(-100.0 - 2 * n, -90.0 - n) for n in range(6)],  # both fall, as while beta rises
        [(-100.0 - 0.1 * n, -90.0 + n) for n in range(6)],  # within a hundredth
        [*PARTED[:3], (-99.0, -80.0), *PARTED[:3]],  # two in a row
        [(float("nan"), float("nan"))] * 6,
    ],
)
def test_bounds_that_do_not_part_are_not_spoken_of(bounds, caplog):
    see(Symptoms(), *bounds)
    assert not caplog.messages


def test_what_was_seen_goes_on_from_a_checkpoint(caplog):
    first, second = Symptoms(), Symptoms()
    see(first, *PARTED[:2])
    second.load_state_dict(first.state_dict())
    see(second, *PARTED[2:4])
    assert len(caplog.messages) == 1
    third = Symptoms()
    third.load_state_dict(second.state_dict())
    see(third, *PARTED[1:])
    assert len(caplog.messages) == 1


class SameForAll(Callback):
    """Let the encoder forget its images."""

    def on_validation_start(self, trainer, pl_module):
        for parameter in pl_module.encoder.parameters():
            parameter.data.zero_()


def test_a_slow_start_is_no_collapse(caplog):
    callback = Symptoms()
    for perplexity in [1.0, 1.5, 1.0, 1.5]:
        see(callback, (-100.0, -90.0), perplexity=perplexity)
    assert not caplog.messages


@pytest.mark.parametrize(("forgets", "starts"), [(True, False), (True, True), (False, False)])
def test_one_code_for_all_images_is_said_once(tmp_path, caplog, forgets, starts):
    torch.manual_seed(0)
    callbacks = [Symptoms(), *[SameForAll()] * forgets, *[StartAtMean()] * starts]
    with caplog.at_level(logging.WARNING, "dvae"):
        trainer = toy_trainer(tmp_path, max_epochs=3, callbacks=callbacks)
        trainer.fit(toy_model(), datamodule=toy_data())
    said = [line for line in caplog.messages if "have the same code" in line]
    assert len(said) == forgets
    assert ["StartAtMean" in line for line in said] == [not starts] * forgets
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    kept = torch.load(tmp_path / "x.ckpt", weights_only=True)["callbacks"]["Symptoms"]
    assert kept["collapsed"] == 2 * forgets
