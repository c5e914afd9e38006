"""What a run does when its loss, its gradients or its weights stop being numbers."""

import math
import os
import signal

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from dvae.bottlenecks import VQ, Upkeep
from dvae.callbacks import Anneal, Checkpoints, NonFinite, NonFiniteError, StopOnSignal, Stopped
from dvae.callbacks.first_broken import FirstBroken, Moment
from dvae.likelihoods import Gaussian
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.networks import ResNet
from dvae.schedules import Linear
from tests.models.launch import ranks_of
from tests.toy import toy_data, toy_model, toy_trainer


class Break(Callback):
    """Break something at a step, once."""

    def __init__(self, what, step=3):
        self.what, self.step = what, step
        self.before = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step != self.step:
            pl_module.bias = 0.0
            return
        self.before = {k: v.clone() for k, v in pl_module.state_dict().items()}
        if self.what == "weight":
            next(pl_module.decoder.parameters()).data.view(-1)[0] = math.inf
        elif self.what == "encoder":
            next(pl_module.encoder.parameters()).data.fill_(math.nan)
        elif self.what == "loss":
            pl_module.bias = math.nan
        elif self.what == "gradient":
            weight = next(pl_module.parameters())
            self.hook = weight.register_hook(lambda gradient: gradient * math.inf)

    def on_train_batch_end(self, *_):
        if hasattr(self, "hook"):
            self.hook.remove()


class Biased(CategoricalVAE):
    bias = 0.0

    def log_px(self, code, image):
        return super().log_px(code, image) + self.bias


def run(tmp_path, what, action="stop", **kwargs):
    model = toy_model()
    model.__class__ = Biased
    spy = Break(what)
    callbacks = [Anneal("tau", Linear(1.0, 0.5, 10)), spy, NonFinite(action)]
    kwargs = {"max_steps": 6, "limit_val_batches": 0, "callbacks": callbacks} | kwargs
    trainer = toy_trainer(tmp_path, **kwargs)
    torch.manual_seed(0)
    trainer.fit(model, datamodule=toy_data())
    return model, spy, trainer


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("loss", "the loss is not finite; broke first: the reconstruction"),
        ("weight", "broke first: the weight decoder."),
        ("gradient", "a gradient is not finite; broke first: the gradient of encoder."),
    ],
)
def test_it_stops_at_once_and_says_where(what, message, tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        run(tmp_path, what)
    text = str(caught.value)
    assert text.startswith("step 3 (") and "tau 0.85" in text and "beta 1" in text
    assert message in text and "\n" not in text
    batch = torch.load(tmp_path / "nonfinite_step_3.pt", weights_only=True)
    assert batch["image"].shape == (16, 1, 6, 6) and batch["label"].shape == (16,)


def test_logits_that_break_before_there_is_a_loss_are_told_too(tmp_path):
    with pytest.raises(ValueError, match=r"step 3 \(.*broke first: the weight encoder\."):
        run(tmp_path, "encoder")
    assert (tmp_path / "nonfinite_step_3.pt").is_file()


@pytest.fixture
def accelerator(monkeypatch):
    """Let the code go the ways that it goes where a look is waited for."""
    for module in ("callbacks.nonfinite", "estimators.base"):
        monkeypatch.setattr(f"dvae.{module}.is_waited_for", lambda tensor: True)


@pytest.mark.parametrize("what", ["loss", "weight", "encoder"])
@pytest.mark.parametrize("log_every_n_steps", [1, 2, 5, 50])
def test_an_accelerator_tells_later_of_the_same_step(what, log_every_n_steps, tmp_path, request):
    here, there = tmp_path / "cpu", tmp_path / "accelerator"
    with pytest.raises((NonFiniteError, ValueError)) as on_cpu:
        run(here, what)
    request.getfixturevalue("accelerator")
    with pytest.raises(NonFiniteError) as later:
        run(there, what, log_every_n_steps=log_every_n_steps)
    begin, _, first = str(later.value).partition("the loss is not finite; broke first: the ")
    assert begin == "step 3 (tau 0.85, beta 1): " and str(on_cpu.value).startswith(begin)
    if log_every_n_steps <= 2:  # a look at the step itself, whose weights are still there
        assert first.startswith(
            {"loss": "recon", "weight": "weight dec", "encoder": "weight enc"}[what]
        )
    else:
        seen = {5: "step 4", 50: "step 6"}[log_every_n_steps]
        terms = {"encoder": "kl and the reconstruction and the bound"}
        assert first.startswith(
            f"{terms.get(what, 'reconstruction and the bound')} (seen at {seen})"
        )
    (ours,), (theirs,) = (list(folder.glob("nonfinite_*")) for folder in (here, there))
    assert ours.name == theirs.name == "nonfinite_step_3.pt"
    ours, theirs = (torch.load(path, weights_only=True) for path in (ours, theirs))
    assert ours.keys() == theirs.keys() == {"image", "label"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_accelerator_tells_of_the_first_broken_step_among_batches_of_other_sizes(accelerator):
    def moment(step, size):
        image = torch.full((size, 1, 2, 2), float(step))
        return Moment(step, {"tau": torch.tensor(0.1 * step)}, {"image": image}, {})

    for broken in range(6):
        first = FirstBroken()
        for step, size in enumerate([4, 4, 3, 4, 2, 2]):
            loss = math.nan if step == broken else -math.inf if step > broken else 1.0
            first.note(torch.tensor(loss), moment(step, size))
        found = first.take()
        assert found.step == broken and (found.batch["image"] == broken).all()
        assert found.values["tau"].item() == pytest.approx(0.1 * broken)
        assert first.take() is None
    first.note(torch.tensor(1.0), moment(0, 4))
    assert first.take() is None


def test_an_accelerator_saves_no_broken_weights(accelerator, tmp_path):
    checkpoints = Checkpoints(every_n_steps=2)
    with pytest.raises(NonFiniteError, match="step 3 "):
        run(
            *(tmp_path, "encoder"),
            callbacks=[Break("encoder"), NonFinite(), checkpoints],
            enable_checkpointing=True,
            log_every_n_steps=50,
        )
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(x.isfinite().all() for x in saved["state_dict"].values())


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_skip_leaves_the_step_out_and_goes_on(what, tmp_path, caplog):
    model, _, trainer = run(tmp_path, what, "skip")
    assert trainer.global_step == 6
    assert "the step is left out" in caplog.text
    assert all(p.isfinite().all() for p in model.parameters())


def test_skip_stops_where_a_weight_is_broken_for_good(tmp_path):
    with pytest.raises(NonFiniteError, match=r"broke first: the weight decoder\."):
        run(tmp_path, "weight", "skip")


@pytest.mark.slow
def test_processes_leave_out_the_same_steps_and_stop_together(tmp_path):
    (ours, our_stop), (theirs, their_stop) = ranks_of("tests.models.ddp_nonfinite", tmp_path, 2)
    for name, value in ours.items():
        assert value.isfinite().all() and torch.equal(value, theirs[name]), name
    # The step that is left out is left out of the averages as well.
    assert ours["bottleneck.quantizer._codebook.cluster_size"].sum() > 0
    assert "the loss of another process is not finite" in our_stop
    assert "the loss is not finite; broke first: the buffer likelihood.variance" in their_stop
    assert (tmp_path / "nonfinite_step_2_rank_1.pt").is_file()


def test_a_step_that_is_left_out_is_left_out_of_the_averages(tmp_path):
    bottleneck = VQ(4, 2, upkeep=Upkeep(kmeans=0))
    network = ResNet((1, 6, 6), width=8, halvings=1, blocks=1)
    model = CodebookVAE(network, bottleneck, Gaussian())
    seen = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append(bottleneck.quantizer._codebook.embed_avg.clone())

    class NoImage(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 1:
                break_it = lambda *arguments: arguments[2] * math.nan  # noqa: E731
                self.hook = model.encoder.register_forward_hook(break_it)

        def on_before_backward(self, trainer, *_):
            if trainer.global_step == 1:
                self.hook.remove()

    callbacks = [NoImage(), NonFinite("skip"), Look()]
    trainer = toy_trainer(tmp_path, max_steps=3, limit_val_batches=0, callbacks=callbacks)
    trainer.fit(model, datamodule=toy_data())
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_another_action_is_refused():
    with pytest.raises(ValueError, match="nonfinite must be stop or skip; got 'ignore'"):
        NonFinite("ignore")


def test_a_full_disk_does_not_end_the_training_before_its_end(tmp_path, monkeypatch, caplog):
    import pytorch_lightning as pl

    checkpoints = Checkpoints(every_n_steps=2)
    trainer = toy_trainer(tmp_path, max_steps=7, enable_checkpointing=True, callbacks=[checkpoints])
    save = pl.Trainer.save_checkpoint

    def full(self, *args, **kwargs):
        if self.global_step in (4, 5, 6):
            raise OSError(28, "No space left on device")
        save(self, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    trainer.fit(toy_model(), datamodule=toy_data())
    assert caplog.text.count("No space left on device") == 2
    path = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == 7


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    import pytorch_lightning as pl

    trainer = toy_trainer(
        tmp_path, max_steps=3, enable_checkpointing=True, callbacks=[Checkpoints()]
    )

    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", denied)
    with pytest.raises(OSError, match=r"last step \(3\) could not be written.*make room"):
        trainer.fit(toy_model(), datamodule=toy_data())


@pytest.mark.parametrize("full_at", [2, 3])
def test_a_stop_on_a_full_disk_names_no_file_that_is_not_there(tmp_path, monkeypatch, full_at):
    import pytorch_lightning as pl

    class Ask(pl.Callback):
        def on_train_batch_start(self, trainer, *args):
            if trainer.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    save = pl.Trainer.save_checkpoint

    def full(self, *args, **kwargs):
        if self.global_step >= full_at:
            raise OSError(28, "No space left on device")
        save(self, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    callbacks = [Ask(), Checkpoints(every_n_steps=2), StopOnSignal()]
    trainer = toy_trainer(tmp_path, max_steps=7, enable_checkpointing=True, callbacks=callbacks)
    with pytest.raises(Stopped) as stopped:
        trainer.fit(toy_model(), datamodule=toy_data())
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert stopped.value.step == 3
    # What was written before the disk was full is there to go on from.
    assert stopped.value.checkpoint == (None if full_at == 2 else str(last))
    assert last.is_file() == (full_at == 3)
