"""Images per second of the main job, against what people write today and a bare loop.

python -m benchmarks.training

Ways to train a 20x10 categorical VAE on MNIST, in turn, several rounds:

- ours: `CategoricalVAE` under Lightning with the loggers and callbacks of the command line;
- ours, compiled: with `--model.compile true`, the compiler's own time apart;
- ours, bf16-mixed: with `--trainer.precision bf16-mixed`, which is not the peers' arithmetic (on a
  CPU without instructions for it, where a step takes many times as long, a tenth of the steps and
  no end of an epoch);
- ours without callbacks and loggers: the same with nothing shown, logged or saved;
- bare: a PyTorch loop that does the same arithmetic on the same batches, and nothing else;
- peer: torchvision's MNIST with ToTensor in a DataLoader, F.gumbel_softmax, plain Adam,
  Lightning; without worker processes, and with one for each core.

The clock starts after the end of the first epoch, where fonts are loaded and loggers begin, and
sees two epochs with the pictures and checkpoints that the end of each has.
"""

import argparse
import gzip
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.profilers import Profiler
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.measure import machine, milliseconds, ratio, read_csv, spread, write_csv
from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import (
    Anneal,
    Checkpoints,
    Curves,
    LatentInspector,
    NonFinite,
    ProgressBar,
    RandomState,
    Reconstructions,
    RunId,
    StopOnSignal,
    Stopwatch,
)
from dvae.cli.loggers import default_loggers
from dvae.data import MNIST
from dvae.data.mnist import BUNDLED
from dvae.devices import multiplies_bfloat16
from dvae.estimators import GumbelSoftmax
from dvae.functional import bernoulli_log_prob, categorical_kl
from dvae.models import CategoricalVAE
from dvae.models.compiled import Compile
from dvae.models.overhead import prepare_cpu
from dvae.schedules import Cosine

BATCH = 200
EPOCH = 55_000 // BATCH
WARM_UP = 20
SILENT = "ours without callbacks and loggers"


class Clock(pl.Callback):
    """Time the training steps after a warm-up.

    Args:
        warm_up: Steps before the clock starts.
    """

    def __init__(self, warm_up: int = WARM_UP) -> None:
        self.warm_up = warm_up

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Start the clock; the batch index would start it again in every epoch."""
        if trainer.global_step == self.warm_up:
            self.start = now()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Read the clock after the last step."""
        if trainer.global_step == trainer.max_steps:
            self.seconds = now() - self.start


def now() -> float:
    """Return the time, with everything done that a GPU was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def command_line() -> Iterator[None]:
    """Set the process up as the command line does, and leave it to the peers as it was."""
    with mock.patch.dict(os.environ):
        prepare_cpu()
        yield
    torch.set_flush_denormal(False)


def make_model(compile: Compile = False) -> CategoricalVAE:
    """Build the model of the default configuration."""
    bottleneck = CategoricalBottleneck(estimator=GumbelSoftmax(1.0))
    return CategoricalVAE(bottleneck=bottleneck, compile=compile)


def ours(
    steps: int,
    folder: Path,
    warm_up: int,
    compile: Compile = False,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    device: str = "auto",
    make: Callable[[Compile], CategoricalVAE] = make_model,
    profiler: Profiler | None = None,
) -> float:
    """Train as the command line does; return images per second."""
    clock = Clock(warm_up)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator=device,
        devices=1,
        precision=precision,
        default_root_dir=folder,
        logger=default_loggers(str(folder), "benchmark"),
        callbacks=[
            Anneal("tau", Cosine(1.0, 0.4)),
            RandomState(),
            Curves(),
            Stopwatch(),
            RunId("benchmark"),
            NonFinite(),
            ProgressBar(),
            Checkpoints(),
            StopOnSignal(),
            Reconstructions(),
            LatentInspector(),
            clock,
        ],
        enable_model_summary=False,
        enable_progress_bar=True,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        profiler=profiler,
    )
    with command_line():
        trainer.fit(make(compile), datamodule=MNIST(batch_size=BATCH))
    return (steps - warm_up) * BATCH / clock.seconds


def bf16(steps: int, folder: Path, warm_up: int) -> float:
    """Train in mixed precision; return images per second."""
    if torch.cuda.is_available() or multiplies_bfloat16() is not False:
        return ours(steps, folder, warm_up, precision="bf16-mixed")
    few = max(10, (steps - warm_up) // 10)
    return ours(5 + few, folder, 5, precision="bf16-mixed")


def silent(
    steps: int,
    folder: Path,
    warm_up: int,
    device: str = "auto",
    make: Callable[[Compile], CategoricalVAE] = make_model,
) -> float:
    """Train without anything beside the training; return images per second."""
    clock = Clock(warm_up)
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator=device,
        devices=1,
        default_root_dir=folder,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    with command_line():
        trainer.fit(make(False), datamodule=MNIST(batch_size=BATCH))
    return (steps - warm_up) * BATCH / clock.seconds


def bare(
    steps: int,
    folder: Path,
    warm_up: int,
    device: str = "auto",
    make: Callable[[Compile], CategoricalVAE] = make_model,
) -> float:
    """Do the same arithmetic in a plain loop; return images per second."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make(False).to(device)
    data = MNIST(batch_size=BATCH)
    data.setup("fit")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    schedule = Cosine(1.0, 0.4)
    estimator = model.bottleneck.estimator
    done = 0
    start = now()
    while True:
        for batch in data.train_dataloader():
            if done == warm_up:
                start = now()
            estimator.tau.fill_(schedule(done, steps))
            image = batch.image.to(device, non_blocking=True).float().mul_(1 / 255)
            logits = model.encoder(image).view(BATCH, 20, 10)
            code = estimator(logits).code
            params = model.decoder(code.flatten(1))
            log_px = bernoulli_log_prob(params, image).sum((1, 2, 3))
            kl = categorical_kl(logits, model.prior.log_probs).sum(1)
            loss = -(log_px - kl).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                return (steps - warm_up) * BATCH / (now() - start)


class Peer(pl.LightningModule):
    """The module that tutorials write."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.ReLU(),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Linear(256, 200),
        )
        self.decoder = nn.Sequential(
            nn.Linear(200, 256),
            nn.ReLU(),
            nn.Linear(256, 512),
            nn.ReLU(),
            nn.Linear(512, 784),
            nn.Sigmoid(),
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the negative ELBO."""
        x, _ = batch
        logits = self.encoder(x).view(-1, 20, 10)
        z = F.gumbel_softmax(logits, tau=1.0)
        reconstruction = self.decoder(z.flatten(1))
        bce = F.binary_cross_entropy(reconstruction, x.flatten(1), reduction="sum") / len(x)
        q = F.softmax(logits, -1)
        kl = (q * (torch.log(q + 1e-20) - torch.log(torch.tensor(0.1)))).sum((1, 2)).mean()
        loss: Tensor = bce + kl
        self.log_dict({"train/loss": loss, "train/bce": bce, "train/kl": kl}, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return plain Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def peer(workers: int, device: str = "auto") -> Callable[[int, Path, int], float]:
    """Return the recipe with so many worker processes of the loader."""

    def run(steps: int, folder: Path, warm_up: int) -> float:
        data = datasets.MNIST(folder, train=True, transform=transforms.ToTensor())
        loader = DataLoader(
            data,
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        clock = Clock(warm_up)
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator=device,
            devices=1,
            default_root_dir=folder,
            enable_model_summary=False,
            callbacks=[clock],
        )
        trainer.fit(Peer(), loader)
        return (steps - warm_up) * BATCH / clock.seconds

    return run


def main() -> None:
    """Measure, print and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2 * EPOCH, help="of each run, on the clock")
    parser.add_argument("--warm_up", type=int, default=EPOCH + 25, help="steps before them")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    workers = torch.get_num_threads()
    ways: dict[str, Callable[[int, Path, int], float]] = {
        "ours": ours,
        "ours, compiled": partial(ours, compile=True),
        "ours, bf16-mixed": bf16,
        SILENT: silent,
        "bare loop": bare,
        "peer, no workers": peer(0),
        f"peer, {workers} workers": peer(workers),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_mnist(folder)
        for _ in range(args.rounds):
            for way, run in ways.items():
                speeds[way].append(run(args.warm_up + args.steps, folder, args.warm_up))
    rows = []
    print(f"\n{'':36}{'images/s':>10}  ours / this, median (p20 to p80)")
    for way, values in speeds.items():
        median, p20, p80 = spread(values)
        r, r20, r80 = ratio(speeds["ours"], values)
        print(f"{way:36}{median:10.0f}  {r:.2f} ({r20:.2f} to {r80:.2f})")
        rows.append(
            {
                "way": way,
                **milliseconds([BATCH / speed for speed in values]),
                "images_per_second": round(median),
                "p20": round(p20),
                "p80": round(p80),
                "ours_over_this": round(r, 3),
                "ratio_p20": round(r20, 3),
                "ratio_p80": round(r80, 3),
                "batch_size": BATCH,
                "rounds": args.rounds,
            }
        )
    where = machine(packages=["pytorch-lightning", "torchvision", "triton"])
    # Ratios depend on the processor: those of another one stay.
    processor = ("device", "instruction_set")
    here = [where[key] for key in processor]
    others = [row for row in read_csv("training") if [row[key] for key in processor] != here]
    print(f"\n{write_csv('training', [*rows, *others], where=where)}")


def unpack_mnist(folder: Path) -> None:
    """Lay the bundled MNIST out as torchvision's download would."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in BUNDLED.glob("*.gz"):
        with gzip.open(path) as packed, (raw / path.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)


if __name__ == "__main__":
    main()
