"""Every argument of Lightning's Trainer has its effect in a run, or is refused in one line."""

import csv
import inspect
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.strategies import DDPStrategy

from dvae.cli import main
from dvae.cli.training import DVAECLI
from dvae.data import Batch
from tests.toy import ToyData

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_categorical.yaml")


class Small(ToyData):
    """A few images, in several batches where they are evaluated too."""

    eval_batch_size = 20


class Sampled(Small):
    """The same through torch's own loader, which is Lightning's to share out among processes."""

    def train_dataloader(self):
        self.setup("fit")
        data = list(zip(self._train.images, self._train.labels, strict=True))
        return torch.utils.data.DataLoader(data, self.batch_size, collate_fn=_collate)


def _collate(rows):
    images, labels = zip(*rows, strict=True)
    return Batch(torch.stack(images), torch.stack(labels))


# Four steps of a tiny model, one validation, one test; the keys of a case come after these.
BASE = [
    *("--config", CONFIG, "--experiment=e", f"--data={__name__}.Small", "--data.val_size=50"),
    *("--data.batch_size=8", "--model.network=MLP", "--model.network.image_shape=[1,6,6]"),
    *("--model.network.hidden=[4]", "--model.evaluation.iwae_samples=1"),
    *("--reconstructions.every_n_epochs=0", "--latents.every_n_epochs=0"),
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.default_root_dir=runs"),
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1"),
    *("--trainer.limit_test_batches=1", "--trainer.num_sanity_val_steps=0"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
]


@dataclass
class Witness(pl.Callback):
    """What can be seen of a run from its hooks."""

    batches: list[float] = field(default_factory=list)  # the sum of each training batch
    sanity: int = 0
    evaluated: dict[str, int] = field(default_factory=lambda: {"val": 0, "test": 0, "predict": 0})
    validated_at: list[int] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    gradients: list[torch.Tensor] = field(default_factory=list)  # as the last step took them
    flags: set[str] = field(default_factory=set)
    sampler: str = ""

    def __hash__(self):
        return id(self)

    def on_train_start(self, trainer, model):
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        self.sampler = type(sampler).__name__
        model.encoder.register_forward_hook(lambda m, x, out: self.dtypes.add(out.dtype))

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        self.batches.append(float(batch.image.sum()))
        flags = {
            "anomaly": torch.is_anomaly_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "benchmark": torch.backends.cudnn.benchmark,
        }
        self.flags |= {name for name, value in flags.items() if value}

    def on_before_zero_grad(self, trainer, model, optimizer):
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        if found:
            self.gradients.append(torch.cat(found))

    def on_validation_batch_end(self, trainer, *args):
        self.evaluated["val"] += not trainer.sanity_checking
        self.sanity += trainer.sanity_checking

    def on_validation_end(self, trainer, model):
        if not trainer.sanity_checking:
            self.validated_at.append(trainer.global_step)

    def on_test_batch_end(self, *args):
        self.evaluated["test"] += 1
        if torch.is_inference_mode_enabled():
            self.flags.add("inference")

    def on_predict_batch_end(self, *args):
        self.evaluated["predict"] += 1


class Planned(ValueError):
    """Raised where a run is to be looked at before it starts."""


@dataclass
class Run:
    """A run that is over."""

    trainer: pl.Trainer
    seen: Witness
    text: str
    root: Path

    @property
    def steps(self) -> int:
        return self.trainer.global_step

    @property
    def rows(self) -> list[dict[str, str]]:
        with next(self.root.rglob("metrics.csv")).open() as file:
            return list(csv.DictReader(file))

    def files(self, pattern: str) -> list[Path]:
        return list(self.root.rglob(pattern))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, caplog):
    """Run the command line in a folder of its own; torch and the process are left as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    environment = dict(os.environ)

    def go(*args: str, command: str = "fit", plan: bool = False, expect: int = 0) -> Run:
        kept: list[tuple[pl.Trainer, Witness]] = []

        class Watched(DVAECLI):
            def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
                trainer = super().instantiate_trainer(**kwargs)
                kept.append((trainer, Witness()))
                trainer.callbacks.append(kept[0][1])
                return trainer

            def before_fit(self) -> None:
                if plan:
                    raise Planned("as planned")
                super().before_fit()

        assert main([command, *BASE, *args], Watched) == (2 if plan else expect)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        trainer, seen = kept[0] if kept else (None, None)
        return Run(trainer, seen, out + err + caplog.text, tmp_path)

    yield go
    wandb.finish()  # the next run would go on with it
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


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


def clipped(run: Run, norm: bool) -> bool:
    values = [g.norm() if norm else g.abs().max() for g in run.seen.gradients]
    return bool(values) and float(max(values)) <= 1.001e-3


NOW = '--trainer.max_time={"microseconds":1} --trainer.max_epochs=3'
# What has no length cannot be gone along.
OPEN = ("--anneal.tau=null", "--model.lr_schedule=null")
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


def refuses(run, root, flags, message):
    text = run(*flags.split(), expect=2).text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(root.iterdir())


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


def test_a_project_that_wandb_refuses_is_said_in_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "team/project")
    refuses(run, tmp_path, "", "wandb refuses its settings: Invalid project name 'team/project'")


OWN = "--trainer.logger=WandbLogger --trainer.logger.save_dir=logs"


@pytest.mark.parametrize("flags", ["--trainer.logger=false", OWN, "--trainer.logger=true"])
def test_whatever_logs_each_run_has_a_folder_and_the_last_one_is_found(flags, run, tmp_path):
    for _ in range(2):
        run(*flags.split())
    done = run(*flags.split(), "--ckpt_path=last", "--trainer.max_epochs=2")
    assert done.steps == 8 and len(done.seen.batches) == 4
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["e"]
    for version in range(3):
        found = {path.name for path in (tmp_path / f"runs/e/version_{version}").iterdir()}
        assert {"config.yaml", "checkpoints", "media"} <= found
        assert ("metrics.csv" in found) == ("false" not in flags)


def test_batches_are_added_up_by_one_rule(run, tmp_path):
    rule = "{class_path: GradientAccumulationScheduler, init_args: {scheduling: {0: 1, 1: 2}}}"
    config = tmp_path.with_suffix(".yaml")
    config.write_text(f"trainer: {{callbacks: [{rule}]}}")
    refuses(run, tmp_path, f"--config={config}", "set trainer.accumulate_grad_batches")


def test_a_validation_may_come_by_time(run):
    done = run('--trainer.val_check_interval={"microseconds":1}')
    assert done.seen.validated_at == [1, 2, 3, 4]


def test_an_operation_that_is_never_deterministic_is_said_in_one_line(run, tmp_path):
    end = f"--trainer.callbacks+={__name__}.Chance"
    done = run("--trainer.deterministic=true", end, expect=2)
    assert "error: put_ has no deterministic version here: set trainer.deterministic" in done.text
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        run("--trainer.deterministic=warn", end)


class Chance(pl.Callback):
    """Do what torch has no deterministic version of, on any device."""

    def on_train_start(self, trainer, model):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))


def test_a_timer_of_the_users_ends_the_run(run):
    timer = '--trainer.callbacks+=Timer --trainer.callbacks.duration={"microseconds":1}'
    done = run(*timer.split(), "--trainer.max_epochs=-1", *OPEN)
    assert done.steps == 1 and done.seen.evaluated["test"] == 1


def test_the_time_limit_leaves_the_seconds_of_training_to_the_summary(run):
    done = run(*NOW.split())
    assert re.search(r"^training +0 seconds$", done.text, re.MULTILINE)
    kept = torch.load(done.files("last.ckpt")[0], weights_only=True)["callbacks"]
    assert 0 < kept["Stopwatch"]["seconds"] < 60


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "RichProgressBar"])
def test_a_progress_bar_of_the_users_takes_the_place_of_ours(bar, run):
    done = run("--trainer.enable_progress_bar=true", f"--trainer.callbacks+={bar}")
    assert type(done.trainer.progress_bar_callback).__name__ == bar


def test_the_settings_reach_whoever_logs_them(run):
    config = dict(run().trainer.loggers[1].experiment.config)
    assert config["model"]["init_args"]["network"]["init_args"]["hidden"] == [4]
    assert config["trainer"]["max_epochs"] == 1


class Terminate(pl.Callback):
    """Ask for an end after the second step."""

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("saves", [True, False])
def test_a_signal_ends_a_run_that_saves_nothing_too(saves, run):
    end = f"--trainer.callbacks+={__name__}.Terminate"
    flags = [] if saves else ["--trainer.enable_checkpointing=false"]
    done = run(end, *flags, expect=128 + signal.SIGTERM)
    assert done.steps == 2 and bool(done.files("last.ckpt")) == saves
    assert ("resume with" in done.text) == saves
    assert ("nothing was saved; begin again with" in done.text) == (not saves)
