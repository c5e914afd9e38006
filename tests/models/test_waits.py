"""A training step asks the device for no number: the host would wait for all that it started."""

import traceback

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dvae.bottlenecks import ProjectedCodebook, Upkeep
from dvae.callbacks import Anneal
from dvae.estimators import GumbelSoftmax
from dvae.models import CodebookVAE
from dvae.models.logging import is_logged
from dvae.networks import ResNet
from dvae.schedules import Linear
from tests.toy import toy_data, toy_model, toy_trainer

# What every `item`, `bool` and `tolist` comes down to; a mask as an index has an own operation.
WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"}


class Waits(TorchDispatchMode):
    """Note where a number is read, or the size of a result depends on one."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        masked = name == "aten::index" and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if masked or name in WAITS:
            frame = [x for x in traceback.extract_stack()[:-1] if "/torch/" not in x.filename][-1]
            self.found.append(f"{name} at {frame.filename}:{frame.lineno}")
        return func(*args, **(kwargs or {}))


class Begin(pl.Callback):
    def __init__(self, waits):
        self.waits, self.logged = waits, []

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if batch_idx == 0:  # a code book asks once whether it was loaded, and for dead codes seldom
            return
        self.logged.append(is_logged(trainer))
        self.waits.__enter__()


class End(pl.Callback):
    def __init__(self, waits):
        self.waits = waits

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if batch_idx:
            self.waits.__exit__(None, None, None)


def codebook_model():
    # The blocked kernel has a way of its own on a CPU, where there is nothing to wait for.
    bottleneck = ProjectedCodebook(
        12, 4, 4, GumbelSoftmax(0.7), upkeep=Upkeep(kmeans=0), kernel="plain"
    )
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    return CodebookVAE(network=network, bottleneck=bottleneck)


@pytest.mark.parametrize("make", [toy_model, codebook_model])
def test_no_training_step_waits_for_the_device_logged_or_not(make, tmp_path, monkeypatch):
    # On a CPU it raises at once, elsewhere it asserts without waiting.
    monkeypatch.setattr("dvae.estimators.gumbel_softmax.check_top", lambda top: None)
    waits = Waits()
    begin = Begin(waits)
    callbacks = [begin, Anneal("tau", Linear(1.0, 0.5, 4)), End(waits)]
    trainer = toy_trainer(tmp_path, max_steps=5, log_every_n_steps=2, callbacks=callbacks)
    trainer.limit_val_batches = 0
    trainer.fit(make(), toy_data())
    assert set(begin.logged) == {True, False}
    assert not waits.found, waits.found
