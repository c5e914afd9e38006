import pytest
import pytorch_lightning as pl
import torch

from dvae.bottlenecks import VQ, DiVeQ, ProjectedCodebook, Upkeep
from dvae.bottlenecks.upkeep import Idle
from dvae.callbacks import Anneal, Checkpoints, Curves, RandomState
from dvae.estimators import GumbelSoftmax, ReinMax
from dvae.models import ELBO, CodebookVAE
from dvae.networks import ResNet
from dvae.schedules import Cosine, Linear, Sequential
from tests.toy import toy_data, toy_model, toy_trainer


def train(tmp_path, estimator, steps, ckpt_path=None):
    pl.seed_everything(3)
    model = toy_model(
        estimator(),
        objective=ELBO(0.5),
        lr_schedule=Sequential([Linear(0.1, 1.0, 5), Cosine(1.0, 0.0, 20)]),
    )
    callbacks = [
        Anneal("tau", Cosine(2.0, 1.0, 25)),
        Anneal("beta", Linear(0.0, 1.0, 25)),
        RandomState(),
        Curves(),
    ]
    trainer = toy_trainer(tmp_path, max_steps=steps, callbacks=callbacks)
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    trainer.fit(model, datamodule=toy_data(binarization="dynamic"), ckpt_path=ckpt_path)
    return trainer, model


@pytest.mark.parametrize("estimator", [lambda: GumbelSoftmax(1.0), lambda: ReinMax(1.0)])
@pytest.mark.parametrize("stop", [4, 11, 17])  # 11 batches an epoch: before, at and after its end
def test_training_2n_steps_equals_n_then_a_stop_then_n(tmp_path, estimator, stop):
    _, whole = train(tmp_path, estimator, 25)
    trainer, _ = train(tmp_path, estimator, stop)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    resumed_trainer, resumed = train(tmp_path, estimator, 25, tmp_path / "stop.ckpt")
    assert resumed_trainer.global_step == 25
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


CODEBOOKS = {
    # More codes than are in use, so that revivals come all the time, looked for every third step.
    "vq": lambda: VQ(40, 4, upkeep=Upkeep(kmeans=3, revive_after=30)),
    "diveq": lambda: DiVeQ(40, 4, upkeep=Upkeep(kmeans=3, revive_after=30)),
    "projected": lambda: ProjectedCodebook(
        40, 4, 4, GumbelSoftmax(1.0), upkeep=Upkeep(kmeans=3, revive_after=30)
    ),
    "bfloat16": lambda: ProjectedCodebook(
        60, 4, 4, GumbelSoftmax(1.0), upkeep=Upkeep(kmeans=3, revive_after=30), kernel="blocked"
    ),
}
PRECISIONS = {"bfloat16": "bf16-mixed"}


class Revivals(pl.Callback):
    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, model, *args):
        (idle,) = [m for m in model.modules() if isinstance(m, Idle)]
        if ((self.before >= 30) & (idle.steps < 2)).any():
            self.steps.append(trainer.global_step)

    def on_train_batch_start(self, trainer, model, *args):
        (idle,) = [m for m in model.modules() if isinstance(m, Idle)]
        self.before = idle.steps.clone()


def train_codebook(tmp_path, kind, steps, ckpt_path=None):
    pl.seed_everything(3)
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    model = CodebookVAE(network, CODEBOOKS[kind](), lr_schedule=Cosine(1.0, 0.0, 60))
    revivals = Revivals()
    trainer = toy_trainer(
        tmp_path,
        max_steps=steps,
        limit_val_batches=0,
        callbacks=[RandomState(), revivals],
        precision=PRECISIONS.get(kind, "32-true"),
    )
    if ckpt_path:
        torch.manual_seed(12345)  # what came before must not matter
    trainer.fit(model, datamodule=toy_data(), ckpt_path=ckpt_path)
    return trainer, model, revivals.steps


# Within an epoch of 11 batches, between two revivals, not at a step where codes are looked at.
@pytest.mark.parametrize(
    ("kind", "stop"), [("vq", 51), ("diveq", 51), ("projected", 35), ("bfloat16", 35)]
)
def test_a_code_book_goes_on_with_averages_and_revivals_too(monkeypatch, tmp_path, kind, stop):
    if kind in PRECISIONS:
        native = {"architecture": "x86_64", "avx512_bf16": True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: native)
    _, whole, revivals = train_codebook(tmp_path, kind, 60)
    trainer, _, _ = train_codebook(tmp_path, kind, stop)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    _, resumed, _ = train_codebook(tmp_path, kind, 60, tmp_path / "stop.ckpt")
    assert min(revivals) < stop < max(revivals)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 25:
            raise RuntimeError("killed")


def train_epochs(tmp_path, val_size, *callbacks, ckpt_path=None):
    pl.seed_everything(3)
    model = toy_model(GumbelSoftmax(1.0))
    every = [RandomState(), *callbacks, Checkpoints()]
    trainer = toy_trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=every)
    trainer.fit(model, datamodule=toy_data(val_size=val_size), ckpt_path=ckpt_path)
    return model


@pytest.mark.filterwarnings(
    "ignore:Total length of", "ignore:Checkpoint directory", "ignore:Be aware that when"
)
@pytest.mark.parametrize("val_size", [0, 50])  # 14 or 11 batches an epoch
def test_a_killed_run_goes_on_from_its_last_epoch_to_the_same_end(tmp_path, val_size):
    whole = train_epochs(tmp_path / "whole", val_size)
    with pytest.raises(RuntimeError, match="killed"):
        train_epochs(tmp_path, val_size, Kill())
    last = tmp_path / "checkpoints" / "last.ckpt"
    resumed = train_epochs(tmp_path, val_size, ckpt_path=last)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_checkpoint_holds_the_annealed_values(tmp_path):
    trainer, _ = train(tmp_path, lambda: GumbelSoftmax(1.0), 10)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state["bottleneck.estimator.tau"].item() == pytest.approx(Cosine(2.0, 1.0, 25)(9))
    assert state["objective.beta"].item() == pytest.approx(9 / 25)


@pytest.mark.parametrize("stop", [4, 15])
def test_a_run_counted_in_epochs_goes_on_with_the_same_images(tmp_path, stop):
    # Its length is asked for before the checkpoint is restored, which used to lose the place.
    def run(folder, ckpt_path=None, stop_at=stop + 1):
        pl.seed_everything(3)
        model = toy_model(lr_schedule=Cosine(1.0, 0.0))
        callbacks = [RandomState(), Anneal("tau", Cosine(2.0, 1.0)), Checkpoints(stop)]
        trainer = toy_trainer(
            folder,
            max_epochs=3,
            limit_train_batches=7,
            enable_checkpointing=True,
            callbacks=[*callbacks, Stop(stop_at)],
        )
        trainer.fit(model, datamodule=toy_data(), ckpt_path=ckpt_path)
        return model

    class Stop(pl.Callback):
        def __init__(self, step):
            self.step = step

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == self.step:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "stopped")
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == stop
    whole = run(tmp_path / "whole", stop_at=None)
    resumed = run(tmp_path / "resumed", last, stop_at=None)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
