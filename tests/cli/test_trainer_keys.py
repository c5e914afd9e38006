"""Every argument of Lightning's Trainer has its effect in a run, or is refused in one line."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.strategies import DDPStrategy

from dvae.cli import main
from dvae.data import Batch
from tests.watched import BASE, NOW, Run, Small, refuses


@dataclass(frozen=True)
class Works:
    """A key whose effect is seen."""

    flags: str
    effect: Callable[[Run], bool]
    plan: bool = False
    command: str = "fit"


@dataclass(frozen=True)
class Refused:
    """A key that ends the command with one line, before anything is written."""

    flags: str
    message: str


class Sampled(Small):
    """The same through torch's own loader, which is Lightning's to share out among processes."""

    def train_dataloader(self):
        images = self.rows("train").images
        data = list(zip(images.images, images.labels, strict=True))
        return torch.utils.data.DataLoader(data, self.batch_size, collate_fn=_collate)


def _collate(rows):
    images, labels = zip(*rows, strict=True)
    return Batch(torch.stack(images), torch.stack(labels))


def clipped(run: Run, norm: bool) -> bool:
    values = [g.norm() if norm else g.abs().max() for g in run.seen.gradients]
    return bool(values) and float(max(values)) <= 1.001e-3


CLIP = "--trainer.gradient_clip_val=1e-3"

KEYS: dict[str, Works | Refused] = {
    "accelerator": Refused("--trainer.accelerator=tpu", "torch_xla"),
    "strategy": Works(
        "--trainer.strategy=ddp", lambda run: isinstance(run.trainer.strategy, DDPStrategy)
    ),
    "devices": Works("--trainer.devices=2", lambda run: run.trainer.num_devices == 2, plan=True),
    "num_nodes": Works("--trainer.num_nodes=3", lambda run: run.trainer.world_size == 3, plan=True),
    "precision": Works(
        "--trainer.precision=bf16-mixed", lambda run: run.seen.dtypes == {torch.bfloat16}
    ),
    "logger": Works("--trainer.logger=false", lambda run: not run.files("metrics.csv")),
    "callbacks": Works(
        "--trainer.callbacks+=LearningRateMonitor", lambda run: "lr-AdamW" in run.rows[0]
    ),
    "fast_dev_run": Works(
        "--trainer.fast_dev_run=2", lambda run: run.steps == 2 and not run.files("*")
    ),
    "max_epochs": Works("--trainer.max_epochs=2", lambda run: run.trainer.current_epoch == 2),
    "min_epochs": Works(
        f"--trainer.min_epochs=2 {NOW}", lambda run: run.trainer.current_epoch == 2
    ),
    "max_steps": Works("--trainer.max_steps=2", lambda run: run.steps == 2),
    "min_steps": Works(f"--trainer.min_steps=5 {NOW}", lambda run: run.steps == 5),
    "max_time": Works(NOW, lambda run: run.steps == 1 and run.seen.evaluated["test"] == 1),
    "limit_train_batches": Works(
        "--trainer.limit_train_batches=3", lambda run: len(run.seen.batches) == 3
    ),
    "limit_val_batches": Works(
        "--trainer.limit_val_batches=2", lambda run: run.seen.evaluated["val"] == 2
    ),
    "limit_test_batches": Works(
        "--trainer.limit_test_batches=2", lambda run: run.seen.evaluated["test"] == 2
    ),
    "limit_predict_batches": Works(
        "--trainer.limit_predict_batches=1",
        lambda run: run.seen.evaluated["predict"] == 1,
        command="predict",
    ),
    "overfit_batches": Works(
        "--trainer.overfit_batches=2 --trainer.max_epochs=2",
        lambda run: run.seen.batches[:2] == run.seen.batches[2:] and run.steps == 4,
    ),
    "val_check_interval": Works(
        "--trainer.val_check_interval=2", lambda run: run.seen.validated_at == [2, 4]
    ),
    "check_val_every_n_epoch": Works(
        "--trainer.check_val_every_n_epoch=2 --trainer.max_epochs=2",
        lambda run: run.seen.validated_at == [run.steps] and run.trainer.current_epoch == 2,
    ),
    "num_sanity_val_steps": Works(
        "--trainer.num_sanity_val_steps=1", lambda run: run.seen.sanity == 1
    ),
    "log_every_n_steps": Works(
        "--trainer.log_every_n_steps=2",
        lambda run: [row["step"] for row in run.rows if row["train/loss"]] == ["1", "3"],
    ),
    "enable_checkpointing": Works(
        "--trainer.enable_checkpointing=false",
        lambda run: not run.files("*.ckpt") and run.seen.evaluated["test"] == 1,
    ),
    "enable_progress_bar": Works(
        "--trainer.enable_progress_bar=true",
        lambda run: run.trainer.progress_bar_callback is not None,
    ),
    "enable_model_summary": Works(
        "--trainer.enable_model_summary=true", lambda run: "Trainable params" in run.text
    ),
    "accumulate_grad_batches": Works(
        "--trainer.accumulate_grad_batches=2",
        lambda run: run.steps == 2 and len(run.seen.batches) == 4,
    ),
    "gradient_clip_val": Works(CLIP, lambda run: clipped(run, norm=True)),
    "gradient_clip_algorithm": Works(
        f"--trainer.gradient_clip_algorithm=value {CLIP}",
        lambda run: clipped(run, norm=False) and not clipped(run, norm=True),
    ),
    "deterministic": Works(
        "--trainer.deterministic=true", lambda run: "deterministic" in run.seen.flags
    ),
    "benchmark": Works("--trainer.benchmark=true", lambda run: "benchmark" in run.seen.flags),
    "inference_mode": Works(
        "--trainer.inference_mode=false", lambda run: "inference" not in run.seen.flags
    ),
    "use_distributed_sampler": Works(
        f"--trainer.use_distributed_sampler=false --trainer.strategy=ddp --data={__name__}.Sampled",
        lambda run: run.seen.sampler == "SequentialSampler",
    ),
    "profiler": Works("--trainer.profiler=simple", lambda run: "Profiler Report" in run.text),
    "detect_anomaly": Works(
        "--trainer.detect_anomaly=true", lambda run: "anomaly" in run.seen.flags
    ),
    "barebones": Refused("--trainer.barebones=true", "trainer.barebones must be false"),
    "plugins": Works(
        "--trainer.plugins=MixedPrecision --trainer.plugins.precision=bf16-mixed "
        "--trainer.plugins.device=cpu",
        lambda run: run.seen.dtypes == {torch.bfloat16},
    ),
    "sync_batchnorm": Refused("--trainer.sync_batchnorm=true", "sync_batchnorm needs GPUs"),
    "reload_dataloaders_every_n_epochs": Refused(
        "--trainer.reload_dataloaders_every_n_epochs=1", "must be 0: the images come in a new order"
    ),
    "default_root_dir": Works(
        "--trainer.default_root_dir=elsewhere", lambda run: bool(run.files("elsewhere/e/*/c*.yaml"))
    ),
    "enable_autolog_hparams": Works(
        "--trainer.enable_autolog_hparams=false",
        lambda run: not dict(run.trainer.loggers[1].experiment.config),
    ),
    "model_registry": Refused("--trainer.model_registry=mine", "model_registry must be null"),
}

# Keys whose effects do not hide each other share a run; the others have one each.
TOGETHER = [
    "limit_train_batches limit_val_batches limit_test_batches num_sanity_val_steps inference_mode "
    "detect_anomaly deterministic benchmark default_root_dir",
    "precision gradient_clip_val enable_autolog_hparams enable_model_summary",
    "plugins gradient_clip_algorithm log_every_n_steps val_check_interval callbacks",
    "accumulate_grad_batches profiler enable_checkpointing enable_progress_bar",
    "max_epochs overfit_batches check_val_every_n_epoch",
    "max_steps logger",
    "strategy use_distributed_sampler",
]
SHARED = [group.split() for group in TOGETHER]
WORKING = [key for key, row in KEYS.items() if isinstance(row, Works)]
RUNS = SHARED + [[key] for key in WORKING if not any(key in group for group in SHARED)]
REFUSED = [key for key, row in KEYS.items() if isinstance(row, Refused)]


def test_every_argument_of_the_trainer_has_a_row():
    arguments = inspect.signature(pl.Trainer.__init__).parameters.keys() - {"self"}
    assert KEYS.keys() == arguments


@pytest.mark.parametrize("keys", RUNS, ids="+".join)
def test_its_effect_is_seen(keys, run, trained):
    rows = [KEYS[key] for key in keys]
    flags = [flag for row in rows for flag in row.flags.split()]
    more = ["--ckpt_path", str(trained)] if rows[0].command == "predict" else []
    done = run(*flags, *more, command=rows[0].command, plan=rows[0].plan)
    assert [key for key in keys if not KEYS[key].effect(done)] == []


def test_without_it_there_is_no_such_effect(run):
    plain = run()
    assert [key for key in WORKING if _or_none(KEYS[key].effect, plain)] == []


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_refused_is_said_in_one_line(key, run, tmp_path):
    refuses(run, tmp_path, KEYS[key].flags, KEYS[key].message)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        assert main(["fit", *BASE]) == 0
        wandb.finish()
    return folder / "runs" / "e" / "version_0" / "checkpoints" / "best.ckpt"


def _or_none(effect, run):
    # An effect may look for what a plain run has not got.
    try:
        return effect(run)
    except AttributeError:
        return None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trainer.default_root_dir=null", "default_root_dir must be a folder"),
        ("--trainer.gradient_clip_val=-1", "gradient_clip_val must be >= 0, or null for none"),
        ("--trainer.gradient_clip_val=.nan", "gradient_clip_val must be >= 0, or null for none"),
        ("--trainer.num_sanity_val_steps=-2", "num_sanity_val_steps must be >= 0, or -1"),
        ("--trainer.max_time=00:00:00:00", "max_time must be > 0"),
        ("--trainer.max_time=soon", "max_time must be DD:HH:MM:SS"),
        ('--trainer.max_time={"moments":1}', "max_time must be DD:HH:MM:SS"),
        ("--trainer.max_epochs=-1", "the training would never end"),
        ("--trainer.max_epochs=-1 --trainer.callbacks+=Timer", "the training would never end"),
        (f"{NOW} --trainer.callbacks+=Timer", "max_time must be null beside a Timer"),
        ("--trainer.min_epochs=2", "min_epochs must be <= trainer.max_epochs, 1; got 2"),
        (
            "--trainer.max_steps=3 --trainer.min_steps=4",
            "min_steps must be <= trainer.max_steps, 3; got 4",
        ),
        ("--trainer.strategy=ddp_spawn", "strategy must be one that starts processes of their own"),
        ("--trainer.plugins=TorchCheckpointIO", "plugins cannot have a CheckpointIO"),
        ("--trainer.callbacks+=LearningRateFinder", "set the lr of model.optimizer"),
        ("--trainer.callbacks+=BatchSizeFinder", "set data.batch_size"),
        (
            "--trainer.callbacks+=LearningRateMonitor --trainer.logger=false",
            "LearningRateMonitor needs a logger to write to; got trainer.logger false",
        ),
        (
            "--trainer.enable_checkpointing=false --checkpoints.every_n_steps=2",
            "checkpoints.every_n_steps needs trainer.enable_checkpointing",
        ),
        (
            "--trainer.enable_checkpointing=false --trainer.callbacks+=ModelCheckpoint",
            "found `ModelCheckpoint`",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(flags, message, run, tmp_path):
    refuses(run, tmp_path, flags, message)
