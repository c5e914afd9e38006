"""Short runs of the command line, and what can be seen of them from outside."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import pytorch_lightning as pl
import torch

from tests.toy import ToyData

CONFIG = str(Path(__file__).parents[1] / "configs" / "mnist_categorical.yaml")


class Small(ToyData):
    """A few images, in several batches where they are evaluated too."""

    eval_batch_size = 20


# Four steps of a tiny model, one validation, one test; the keys of a case come after these.
BASE = [
    *("--config", CONFIG, "--experiment=e", "--data=tests.watched.Small", "--data.val_size=50"),
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


NOW = '--trainer.max_time={"microseconds":1} --trainer.max_epochs=3'


def refuses(run, root, flags, message):
    text = run(*flags.split(), expect=2).text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(root.iterdir())
