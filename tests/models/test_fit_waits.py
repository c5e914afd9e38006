"""A fit with its default callbacks waits for the device at steps that are logged, and no other."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.callbacks import ModelSummary
from pytorch_lightning.strategies import SingleDeviceStrategy

from dvae.bottlenecks import VQ, DistanceCodebook, ProjectedCodebook, Upkeep
from dvae.bottlenecks.upkeep import Idle
from dvae.callbacks import Anneal, Freeze, ProgressBar, StopOnSignal
from dvae.callbacks.short_run import ShortRun
from dvae.cli import DVAECLI, main
from dvae.models import CodebookVAE
from dvae.models.logging import is_logged
from dvae.networks import ResNet
from dvae.schedules import Cosine
from tests.fake_device import FAKE, FakeDevice
from tests.test_schedules import ALL
from tests.toy import toy_data, toy_model, toy_trainer

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")


class FakeAccelerator(Accelerator):
    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [FAKE]

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "fake"


class Ready(Exception):
    """A fit is about to begin."""


class Look(DVAECLI):
    def before_fit(self):
        raise Ready(self.trainer.callbacks)


def default_callbacks(folder):
    words = ["fit", "--config", CONFIG, "--trainer.default_root_dir", str(folder)]
    for at_epochs in ("reconstructions", "latents"):  # they have nothing to do within one
        words += [f"--{at_epochs}.every_n_epochs", "0"]
    with pytest.raises(Ready) as ready:
        main(words, Look)
    # One that Lightning adds again, and one that would have all of so few steps logged.
    return [c for c in ready.value.args[0] if not isinstance(c, ModelSummary | ShortRun)]


class Begin(pl.Callback):
    """Look from the start of a step that is not logged to the start of the next one."""

    def __init__(self, device):
        self.device, self.looked_at = device, 0

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.device.resting = is_logged(trainer)
        self.looked_at += not self.device.resting


class End(pl.Callback):
    """Do not look at what comes after the last step."""

    def __init__(self, device):
        self.device = device

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == trainer.max_steps:
            self.device.resting = True


def fit(folder, model, callbacks=(), **kwargs):
    """Train on the fake device; return the waits and how many steps were looked at."""
    device = FakeDevice()
    device.resting = True
    begin = Begin(device)
    trainer = toy_trainer(
        folder,
        **{
            "accelerator": FakeAccelerator(),
            "strategy": SingleDeviceStrategy(FAKE),
            "devices": 1,
            "max_steps": 10,
            "limit_val_batches": 0,
            "log_every_n_steps": 4,
            "callbacks": [begin, *callbacks, End(device)],
        }
        | kwargs,
    )
    with device:
        trainer.fit(model, toy_data())
    return device.waits, begin.looked_at


def optimizer(parameters):
    # One that exists for this device; torch's own fused ones do not wait either.
    return torch.optim.SGD(parameters, lr=0.1, foreach=False)


def test_no_default_callback_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("dvae.callbacks.progress._PER_SECOND", 1e9)  # the bar moves at each step
    for name in ("_FIRST", "_EVERY"):  # and a line comes
        monkeypatch.setattr(f"dvae.callbacks.progress_lines.{name}", 0.0)
    callbacks = default_callbacks(tmp_path)
    assert {ProgressBar, Anneal, StopOnSignal} <= set(map(type, callbacks))
    model = toy_model(optimizer=optimizer, lr_schedule=Cosine(1.0, 0.1))
    shown = {"enable_checkpointing": True, "enable_progress_bar": True}
    waits, looked_at = fit(tmp_path, model, [*callbacks, Freeze(["decoder"])], **shown)
    assert looked_at == 7
    assert not waits, waits


@pytest.mark.parametrize("make", [VQ, DistanceCodebook, ProjectedCodebook])
def test_no_code_book_waits_after_its_start(make, tmp_path):
    given = {"in_features": 4} if make is ProjectedCodebook else {}
    bottleneck = make(12, 4, upkeep=Upkeep(kmeans=0), **given)
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    model = CodebookVAE(network, bottleneck, optimizer=optimizer)
    waits, looked_at = fit(tmp_path, model, max_steps=4)
    assert looked_at == 2
    assert not waits, waits


def test_no_schedule_waits(tmp_path):
    for schedule in ALL:
        carry = "continue" if isinstance(schedule, Cosine) else "restart"
        anneal = [Anneal("beta", schedule, carry)]
        waits, looked_at = fit(tmp_path, toy_model(optimizer=optimizer), anneal, max_steps=3)
        assert looked_at == 2
        assert not waits, waits


def test_looks_for_dead_codes_are_rare():
    idle = Idle(8, limit=100).to(FAKE)
    with FakeDevice() as device:
        for _ in range(1000):
            idle.due()
            idle.add(torch.zeros(8, device=FAKE))
            idle.step()
    # One for what was loaded, and then at most ten in as many steps as a code may rest.
    assert 0 < len(device.waits) <= 1 + 10 * 10


def test_processes_agree_on_a_stop_without_the_device(monkeypatch, tmp_path):
    import torch.distributed as dist

    groups = []
    monkeypatch.setattr(dist, "new_group", lambda backend: groups.append(backend) or backend)

    def all_reduce(tensor, operation, group):
        assert group == "gloo" and tensor.device.type == "cpu"

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    stop = StopOnSignal()
    trainer = toy_trainer(tmp_path)
    monkeypatch.setattr(trainer.strategy, "_root_device", FAKE)
    with FakeDevice() as device:
        stop.on_train_start(trainer, None)
        for _ in range(3):
            stop.on_train_epoch_end(trainer, None)
    assert groups == ["gloo"] and not device.waits
