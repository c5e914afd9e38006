"""A code book that starts badly, or is spoiled, recovers in a short run of default settings."""

import pytest
import pytorch_lightning as pl
import torch

from dvae.bottlenecks import VQ, DistanceCodebook, DiVeQ, ProjectedCodebook
from dvae.bottlenecks.upkeep import Idle
from dvae.data import ImageDataModule, Images
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from tests.toy import toy_trainer

pytestmark = pytest.mark.slow

CODES = 32
KINDS = {
    "projected": lambda: ProjectedCodebook(CODES, 16, 16),
    "distance": lambda: DistanceCodebook(CODES, 16),
    "vq": lambda: VQ(CODES, 16),
    "diveq": lambda: DiVeQ(CODES, 16),
}
kinds = pytest.mark.parametrize("kind", KINDS)


class Colours(ImageDataModule):
    """Four squares of any colour: each position has many more modes than there are codes."""

    name = "colours"
    image_shape = (3, 8, 8)
    num_classes = 1

    def load(self, split):
        generator = torch.Generator().manual_seed(1 if split == "train" else 2)
        squares = torch.randint(0, 256, (500, 3, 2, 2), generator=generator, dtype=torch.uint8)
        images = squares.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return Images(images, torch.zeros(500, dtype=torch.int64))


def make(kind, seed=0):
    torch.manual_seed(seed)
    network = ResNet((3, 8, 8), width=16, halvings=1, blocks=1)
    return CodebookVAE(network=network, bottleneck=KINDS[kind]())


def tables_of(bottleneck):
    """Return everything that has a row for each code."""
    if isinstance(bottleneck, VQ):
        (book,) = bottleneck._books()
        return [book.embed[0], book.embed_avg[0]]
    if isinstance(bottleneck, DiVeQ):
        (book,) = bottleneck._books()
        return [book.embed[0]]
    if isinstance(bottleneck, DistanceCodebook):
        return [bottleneck.codebook]
    return [bottleneck.codebook, bottleneck.projection.weight, bottleneck.projection.bias]


@torch.no_grad()
def spoil(bottleneck, how):
    for table in tables_of(bottleneck):
        if how == "equal":
            table.copy_(table[:1].clone().expand_as(table))
        else:
            table.mul_(0.01).add_(100)


def usage(model):
    trainer = toy_trainer(None)
    return trainer.validate(model, datamodule=data(), verbose=False)[0]["val/usage"]


def data():
    return Colours(batch_size=32, val_size=100)


class Spoil(pl.Callback):
    """Makes most codes useless in the middle of the run, whatever the start has done."""

    def __init__(self, step):
        self.step = step

    @torch.no_grad()
    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == self.step:
            bottleneck = model.bottleneck
            if isinstance(bottleneck, ProjectedCodebook):
                bottleneck.projection.bias[2:] -= 1e4
            else:
                spoil(bottleneck, "far")


@kinds
@pytest.mark.parametrize("how", ["equal", "far"])
def test_a_bad_start_is_recovered_from(tmp_path, kind, how):
    model = make(kind)
    spoil(model.bottleneck, how)
    assert usage(model) < 0.3
    toy_trainer(tmp_path, max_steps=400, limit_val_batches=0).fit(model, datamodule=data())
    assert usage(model) > 0.9
    # In use for something: a posterior that says nothing has an arg-max as well, and 11 dB.
    trainer = toy_trainer(None)
    assert trainer.validate(model, datamodule=data(), verbose=False)[0]["val/psnr"] > 14


@kinds
@pytest.mark.parametrize("seed", [0, 1])
def test_codes_that_die_during_the_run_are_revived_and_stay(tmp_path, kind, seed):
    model = make(kind, seed)
    settings = {"max_steps": 160, "limit_val_batches": 0, "callbacks": [Spoil(150)]}
    spoiled = toy_trainer(tmp_path, **settings)
    spoiled.fit(model, datamodule=data())
    assert usage(model) < 0.3
    spoiled.save_checkpoint(tmp_path / "spoiled.ckpt")
    toy_trainer(tmp_path, max_steps=480, limit_val_batches=0).fit(
        model, datamodule=data(), ckpt_path=tmp_path / "spoiled.ckpt"
    )
    # They were moved at step 250, and most are still in use more than twice the limit later.
    assert usage(model) > 0.9


class Watch(pl.Callback):
    """Compares the optimizer's averages of the revived rows with the step's gradient."""

    def __init__(self):
        self.seen = 0

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == 3:
            (idle,) = [m for m in model.modules() if isinstance(m, Idle)]
            idle.steps[:5] = 1_000
            idle._next_look = 0

    def on_before_zero_grad(self, trainer, model, optimizer):
        table = next(iter(tables_of(model.bottleneck)))
        # The table itself, or a view of the parameter.
        parameter = next(p for p in model.parameters() if p.data_ptr() == table.data_ptr())
        state = optimizer.state.get(parameter, {})
        # Called before the backward pass: the averages are those of the step before.
        self.moments = state["exp_avg"].view_as(table).clone() if state else None
        self.gradient = None if parameter.grad is None else parameter.grad.view_as(table).clone()
        if trainer.global_step == 4 and not self.seen:
            self.seen += 1
            expected = 0.1 * self.gradient[:5]
            torch.testing.assert_close(self.moments[:5], expected, rtol=1e-4, atol=1e-9)
            others = (self.moments - 0.1 * self.gradient)[5:]
            assert others.abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["projected", "distance", "diveq"])
def test_the_optimizer_forgets_the_revived_rows_and_no_others(tmp_path, kind):
    model, watch = make(kind), Watch()
    trainer = toy_trainer(tmp_path, max_steps=6, limit_val_batches=0, callbacks=[watch])
    trainer.fit(model, datamodule=data())
    assert watch.seen and not model.bottleneck.take_moved()
