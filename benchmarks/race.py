"""Test ELBO over seconds of training: the default run, variants of it, and ReinMax's recipe.

    python -m benchmarks.race --seeds 0 1 2 3 4
    python -m benchmarks.race --ways default "two draws" --seeds 0

Each way is a command line of `train.py` as a user would start it, with one more callback, and all
have 20 latents of 10 categories on grayscale MNIST. The clock runs from the first step, through
validation, checkpoints and pictures, and stands still while, at the end of each epoch, the ELBO of
the 10,000 test images is measured at one hard draw of each code. Ways are run in turn, seed by
seed; those that have rows for as many seconds are not run again.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from benchmarks.default_run import ROOT
from benchmarks.measure import RESULTS, conditions, mean_of, read_csv, write_csv
from dvae.data import MNIST
from dvae.functional import categorical_kl
from dvae.plotting import in_style, new_figure, save_figure

__all__ = ["TestCurve", "main", "race"]

GOAL = -100.0
_DEFAULT = ["--config", "configs/mnist_categorical.yaml"]
# L. Liu et al., 2023, arXiv 2304.08612: no normalisation, no validation, 160 epochs of batches of
# 100 at a constant rate; optimizer, rate and temperature are their best for 30 latents of 10.
_AUTHORS = [
    *("--config", "configs/mnist_tuned.yaml", "--model.bottleneck.num_latents", "20"),
    *("--model.bottleneck.estimator.tau", "1.3", "--anneal.tau", "null"),
    *("--model.optimizer", "torch.optim.RAdam", "--model.optimizer.lr", "5e-4"),
    *("--model.lr_schedule", "Constant", "--model.lr_schedule.value", "1.0"),
    *("--data.val_size", "0", "--trainer.callbacks", "[]"),
]
WAYS: dict[str, list[str]] = {
    "default": _DEFAULT,
    "bf16-mixed": [*_DEFAULT, "--trainer.precision", "bf16-mixed"],
    "two draws": [*_DEFAULT, "--model.objective", "ELBO", "--model.objective.samples", "2"],
    "ReinMax's authors": _AUTHORS,
}
EPOCHS = dict.fromkeys(WAYS, 24) | {"ReinMax's authors": 160}


class TestCurve(Callback):
    """Measure the test ELBO at the end of each epoch, and stop after a time.

    Args:
        file: Gets a line of comma-separated epoch, seconds of training and nats per example, each
            epoch.
        seconds: Of training, after which there is no other epoch.
    """

    def __init__(self, file: str, seconds: float) -> None:
        self.file, self.seconds, self._started = Path(file), seconds, 0.0
        images = MNIST(batch_size=500).load("test").images
        self._images = images.float() / 255

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Measure, and let the clock go on from where it was before."""
        spent = time.perf_counter() - self._started
        module.eval()
        elbo = test_elbo(module, self._images)
        module.train()
        with self.file.open("a") as file:
            file.write(f"{trainer.current_epoch + 1},{spent:.2f},{elbo:.3f}\n")
        if spent > self.seconds:
            trainer.should_stop = True
        self._started = time.perf_counter() - spent


@torch.no_grad()
def test_elbo(model: Any, images: torch.Tensor) -> float:
    """Return the mean ELBO at one hard draw of each code, nats per example."""
    values, noise = [], torch.Generator(model.device).manual_seed(0)
    for part in images.to(model.device).split(500):
        q = model.bottleneck(model.encoder(part), model.prior)
        code = model.bottleneck.embed(q.sample(1, noise))
        kl = categorical_kl(q.logits, model.prior.log_probs).sum(1)
        values.append(model.log_px(code, part).squeeze(0) - kl)
    return float(torch.cat(values).double().mean())


def run(way: str, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Train; return a row for each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        curve = Path(folder) / "curve.csv"
        words = ["train.py", "fit", *WAYS[way], "--seed_everything", str(seed)]
        words += ["--trainer.callbacks+", "benchmarks.race.TestCurve"]
        words += ["--trainer.callbacks.file", str(curve)]
        words += ["--trainer.callbacks.seconds", str(seconds)]
        words += ["--trainer.default_root_dir", folder, "--model.evaluation.iwae_samples", "1"]
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lines = [line.split(",") for line in curve.read_text().splitlines()]
    names = ("epoch", "seconds", "test_elbo")
    of_all = {"way": way, "seed": seed, "limit": seconds}
    return [of_all | dict(zip(names, line, strict=True)) for line in lines]


def curves(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Collect seconds and test ELBO of each epoch, by way and seed."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        points = found.setdefault(row["way"], {}).setdefault(str(row["seed"]), [])
        points.append((float(row["seconds"]), float(row["test_elbo"])))
    return found


def race() -> str:
    """Make a table: seconds to the goal, and where a way has ended or was stopped."""
    rows = read_csv("race")
    goal = f"seconds to {GOAL:g}"
    lines = [f"| way | {goal} | last test ELBO | epochs | seconds | seeds |"]
    lines += ["|" + "---|" * 6]
    for way, seeds in curves(rows).items():
        reached = [[s for s, elbo in points if elbo >= GOAL] for points in seeds.values()]
        firsts = [each[0] for each in reached if each]
        missed = f" ({len(firsts)} of {len(seeds)})" if len(firsts) < len(seeds) else ""
        lasts = [points[-1] for points in seeds.values()]
        cells = [f"{mean_of(firsts, 0) or 'never'}{missed}", mean_of([elbo for _, elbo in lasts])]
        cells += [f"{max(len(points) for points in seeds.values())} of {EPOCHS[way]}"]
        cells += [mean_of([seconds for seconds, _ in lasts], 0), str(len(seeds))]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"`python -m benchmarks.race` ({conditions(rows[0])})."])


@in_style
def draw(found: dict[str, dict[str, list[tuple[float, float]]]]) -> Any:
    """Draw the test ELBO over seconds, a line for each seed."""
    figure = new_figure(6.4, 4.0, "test ELBO over seconds of training, nats per example")
    axis = figure.subplots()
    for number, (way, seeds) in enumerate(found.items()):
        for at, points in enumerate(seeds.values()):
            label = way if at == 0 else None
            axis.plot(*zip(*points, strict=True), color=f"C{number}", lw=1, label=label)
    axis.axhline(GOAL, color="0.5", lw=0.8)
    axis.set(xlabel="seconds of training", ylabel="test ELBO", ylim=(-125, -97))
    axis.legend()
    return figure


def main() -> None:
    """Run what is missing; write the CSV and the picture; print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--seconds", type=float, default=200.0, help="at most, of training")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = [*read_csv("race")]
    done = {(row["way"], str(row["seed"]), float(row["limit"])) for row in rows}
    for seed in args.seeds:
        for way in args.ways:
            if (way, str(seed), args.seconds) not in done:
                rows += run(way, seed, args.seconds)
                write_csv("race", rows)
                print(way, seed, rows[-1]["seconds"], rows[-1]["test_elbo"], flush=True)
    save_figure(draw(curves(rows)), RESULTS / "race.png")
    print(race())


if __name__ == "__main__":
    main()
