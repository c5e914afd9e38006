"""Train and test the runs of one process; started again, it goes on from its last epoch."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer

from benchmarks.measure import machine
from benchmarks.tables.runs import Group, Run, anneals, data, model
from benchmarks.tables.together import SideBySide, Together, together
from dvae.callbacks import Checkpoints, RandomState, StartAtMean
from dvae.models.overhead import prepare_cpu

__all__ = ["Busy", "EpochMeans", "Progress", "result_of", "train"]

ROOT = Path(__file__).resolve().parent.parent.parent
_EVERY_SECONDS = 1.0


class Busy(Exception):
    """Another process trains one of these runs."""


class EpochMeans(Callback):
    """The running mean of the loss over each epoch, kept in the checkpoint.

    The published train -ELBO is such a mean: each batch counts at the weights that it met, so the
    mean is no property of the final weights.

    Attributes:
        means: One a finished epoch, nats per example; a list of them where several are trained
            together.
    """

    def __init__(self) -> None:
        self.means: list[Any] = []
        self._sum: Any = torch.zeros((), dtype=torch.float64)
        self._count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the means and the sums of an epoch that is not finished."""
        return {"means": list(self.means), "sum": self._sum.tolist(), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.means = list(state_dict["means"])
        self._sum = torch.tensor(state_dict["sum"], dtype=torch.float64)
        self._count = state_dict["count"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Add a batch, in double precision; its size, which is the same for all, cancels."""
        loss = outputs.get("each", outputs["loss"]).detach().double()
        self._sum = self._sum.to(loss.device) + loss
        self._count += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the epoch."""
        self.means.append((self._sum / self._count).tolist())
        self._sum, self._count = torch.zeros_like(self._sum), 0


class Progress(Callback):
    """Write the codes decoded so far into a file, and stop where the parent has gone.

    Args:
        path: The file.
        training: Codes of the whole training.
        testing: Codes of a test.
        parent: The process that must be there, if any.

    Attributes:
        before: Codes decoded before the test that is running.
    """

    def __init__(
        self, path: Path, training: float, testing: float, parent: int | None = None
    ) -> None:
        self.path = path
        self.parent = parent
        self.training = training
        self.testing = testing
        self.before = training
        self._written = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Report a step."""
        self._report(self.training * trainer.global_step / trainer.estimated_stepping_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Report a batch of the test."""
        done = (batch_idx + 1) / float(trainer.num_test_batches[0])
        self._report(self.before + self.testing * done)

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
        root: Folder of all runs of tables.

    Returns:
        A row of the CSV, or None where the run is not finished.
    """
    path = run.folder(root) / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def train(
    group: Group, root: Path, command: Callable[[Run], str], parent: int | None = None
) -> list[dict[str, Any]]:
    """Train and test, or go on with it, or return what is there.

    Args:
        group: The runs.
        root: Folder of all runs of tables.
        command: What reproduces a run, for its row.
        parent: See `Progress`.

    Returns:
        A row of the CSV for each run; bounds in nats per example.

    Raises:
        Busy: Another process is at one of them.
    """
    with ExitStack() as locks:
        for folder in {run.folder(root): None for run in group.runs}:
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(_locked(folder / "lock"))
        if any(result_of(run, root) is None for run in group.runs):
            _train(group, root, command, parent)
    return [result_of(run, root) or {} for run in group.runs]


def _train(group: Group, root: Path, command: Callable[[Run], str], parent: int | None) -> None:
    prepare_cpu()
    commit = _commit()  # before the files can become those of another one
    folder = group.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    models, images = [], []
    for run in group.runs:
        # Each has the weights and the batches that it would have alone.
        pl.seed_everything(run.seed, verbose=False)
        models.append(model(run))
        images.append(data(run))
    module: pl.LightningModule = models[0]
    batches: pl.LightningDataModule = images[0]
    moved = anneals(group.runs[0])
    if len(group.runs) > 1:
        module, batches = Together(models), SideBySide(images)
        made = zip(models, map(anneals, group.runs), strict=True)
        moved = [one for number, pair in enumerate(made) for one in together(number, *pair)]
    testing = 10_000 * group.runs[0].table.iwae_samples
    work = group.work - testing * len(group.runs)
    start = [StartAtMean()] if group.runs[0].table.start_at_mean else []
    progress = Progress(folder / "progress.json", work, testing, parent)
    means, timer = EpochMeans(), Timer()
    trainer = _trainer(
        folder,
        # A checkpoint is taken after the means are closed: Checkpoints goes last.
        [*start, *moved, RandomState(), timer, means, progress, Checkpoints()],
        group.runs[0].table.epochs,
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(module, datamodule=batches, ckpt_path=last if last.is_file() else None)
    # Of all attempts, but for the part of an epoch that each lost; of runs together, a share each.
    seconds = timer.time_elapsed("train") / len(group.runs)
    losses = torch.tensor(means.means[-1]).reshape(-1).tolist()
    rows = []
    for run, vae, own, loss in zip(group.runs, models, images, losses, strict=True):
        start = time.perf_counter()
        (test,) = _trainer(folder, [progress]).test(vae, datamodule=own, verbose=False)
        tested = time.perf_counter() - start
        rows.append(_row(run, loss, test, seconds, tested, commit, command(run)))
        progress.before += testing
    # All or none: of a group with a part of its results, the rest would be trained again.
    for run, row in zip(group.runs, rows, strict=True):
        _write(run.folder(root) / "result.json", row)


def _trainer(folder: Path, callbacks: list[Callback], epochs: int = 1) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(callback, Checkpoints) for callback in callbacks),
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )


def _row(
    run: Run,
    loss: float,
    test: Mapping[str, float],
    training_seconds: float,
    test_seconds: float,
    commit: str,
    command: str,
) -> dict[str, Any]:
    return {
        "table": run.table.name,
        "row": run.cell.row,
        "column": run.cell.column,
        "seed": run.seed,
        "train_negative_elbo": round(loss, 4),
        "test_negative_elbo": round(-test["test/elbo"], 4),
        "test_negative_iwae": round(-test["test/iwae"], 4),
        "test_kl": round(test["test/kl"], 4),
        "iwae_samples": run.table.iwae_samples,
        "epochs": run.table.epochs,
        "training_seconds": round(training_seconds, 1),
        "test_seconds": round(test_seconds, 1),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit,
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
