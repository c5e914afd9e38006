"""Train and test one cell with one seed; started again, it goes on from its last epoch."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer

from benchmarks.measure import machine
from benchmarks.tables.runs import Run, anneals, data, model
from dvae.callbacks import Checkpoints, RandomState

__all__ = ["Busy", "EpochMeans", "Progress", "result_of", "train"]

ROOT = Path(__file__).resolve().parent.parent.parent
_EVERY_SECONDS = 1.0


class Busy(Exception):
    """Another process trains this run."""


class EpochMeans(Callback):
    """The running mean of the loss over each epoch, kept in the checkpoint.

    The published train -ELBO is such a mean: each batch counts at the weights that it met, so the
    mean is no property of the final weights.

    Attributes:
        means: One a finished epoch, nats per example.
    """

    def __init__(self) -> None:
        self.means: list[float] = []
        self._sum: Any = 0.0
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the means and the sums of an epoch that is not finished."""
        return {"means": list(self.means), "sum": float(self._sum), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.means = list(state_dict["means"])
        self._sum, self._count = state_dict["sum"], state_dict["count"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Add a batch, in double precision; its size, which is the same for all, cancels."""
        self._sum = self._sum + outputs["loss"].detach().double()
        self._count += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch."""
        self.means.append(float(self._sum) / self._count)
        self._sum, self._count = 0.0, 0


class Progress(Callback):
    """Write the codes decoded so far into a file, and stop where the parent has gone.

    Args:
        path: The file.
        run: What is trained.
        parent: The process that must be there, if any.
    """

    def __init__(self, path: Path, run: Run, parent: int | None = None) -> None:
        self.path = path
        self.parent = parent
        self.training = run.work - 10_000 * run.table.iwae_samples
        self.testing = run.work - self.training
        self._written = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Report a step."""
        self._report(self.training * trainer.global_step / trainer.estimated_stepping_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Report a batch of the test."""
        done = (batch_idx + 1) / float(trainer.num_test_batches[0])
        self._report(self.training + self.testing * done)

    def _report(self, done: float) -> None:
        now = time.monotonic()
        if now - self._written < _EVERY_SECONDS:
            return
        if self.parent is not None and os.getppid() != self.parent:
            sys.exit("the process that started this one has gone")
        self._written = now
        _write(self.path, {"done": done})


def result_of(run: Run, root: Path) -> dict[str, Any] | None:
    """Return what a run has measured.

    Args:
        run: The run.
        root: Of all runs of tables.

    Returns:
        A row of the CSV, or None where the run is not finished.
    """
    path = run.folder(root) / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def train(run: Run, root: Path, command: str, parent: int | None = None) -> dict[str, Any]:
    """Train and test, or go on with it, or return what is there.

    Args:
        run: The run.
        root: Of all runs of tables.
        command: That reproduces it, for the row.
        parent: See `Progress`.

    Returns:
        A row of the CSV; bounds in nats per example.

    Raises:
        Busy: Another process is at it.
    """
    folder = run.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        done = result_of(run, root)
        if done is None:
            done = _train(run, folder, command, parent)
            _write(folder / "result.json", done)
        return done


def _train(run: Run, folder: Path, command: str, parent: int | None) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    pl.seed_everything(run.seed, verbose=False)
    means, timer, images, vae = EpochMeans(), Timer(), data(run), model(run)
    trainer = pl.Trainer(
        max_epochs=run.table.epochs,
        default_root_dir=folder,
        logger=False,
        # A checkpoint is taken after the means are closed: Checkpoints goes last.
        callbacks=[
            *anneals(run),
            RandomState(),
            timer,
            means,
            Progress(folder / "progress.json", run, parent),
            Checkpoints(),
        ],
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(vae, datamodule=images, ckpt_path=last if last.is_file() else None)
    # Of all attempts, but for the part of an epoch that each lost.
    seconds = timer.time_elapsed("train")
    start = time.perf_counter()
    (result,) = trainer.test(vae, datamodule=images, verbose=False)
    return {
        "table": run.table.name,
        "row": run.cell.row,
        "column": run.cell.column,
        "seed": run.seed,
        "train_negative_elbo": round(means.means[-1], 4),
        "test_negative_elbo": round(-result["test/elbo"], 4),
        "test_negative_iwae": round(-result["test/iwae"], 4),
        "test_kl": round(result["test/kl"], 4),
        "iwae_samples": run.table.iwae_samples,
        "epochs": run.table.epochs,
        "training_seconds": round(seconds, 1),
        "test_seconds": round(time.perf_counter() - start, 1),
        "load": round(os.getloadavg()[0], 1),
        "commit": _commit(),
        "command": command,
        "settings": run.settings,
        **machine(),
        "lightning": pl.__version__,
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{path.parent} is being trained by another process") from None
        yield  # the lock goes with the process, however that ends


def _write(path: Path, content: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.rename(path)


def _commit() -> str:
    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "dvae", "benchmarks")
    except FileNotFoundError:
        return "unknown"
    ours = [line for line in changed.splitlines() if "benchmarks/results/" not in line]
    return f"{commit} and changes" if ours and commit != "unknown" else commit
