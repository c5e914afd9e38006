"""Nine ways to a code on a grid, with the same network, data and number of steps.

    python -m benchmarks.codebooks --data FOLDER --steps 2000 --jobs 2

FOLDER has `train` and `test` below it, with a folder of images for each class. Every run is a
process with one thread, and leaves a JSON behind in `runs/codebooks`: started again, the command
runs what is missing. The CSV has what is there, and the last line says what is not.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytorch_lightning as pl
import torch

from benchmarks.measure import machine, write_csv
from dvae.bottlenecks import (
    FSQ,
    VQ,
    DistanceCodebook,
    ProjectedCodebook,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.bottlenecks.grid import GridBottleneck
from dvae.callbacks import Anneal
from dvae.data import ImageFolder
from dvae.estimators import GumbelSoftmax, ReinMax
from dvae.models import CodebookVAE
from dvae.models.overhead import prepare_cpu
from dvae.networks import ResNet
from dvae.schedules import Constant, Cosine, Linear, Schedule, Sequential

WORK = Path("runs/codebooks")
BATCH = 32
WARM_UP = Sequential((Linear(0.0, 1.0, 0.2), Constant(1.0)))
KEPT = ("psnr", "ssim", "perplexity", "usage", "elbo", "kl", "reconstruction", "bits_per_dim")

# What sends the gradient, and how its temperature moves; the rest is the same for all.
Way = tuple[Callable[[], GridBottleneck], Schedule | None]
WAYS: dict[str, Way] = {
    "Gumbel-softmax, soft": (
        lambda: ProjectedCodebook(estimator=GumbelSoftmax()),
        Cosine(1.0, 0.0625),
    ),
    "Gumbel-softmax, straight-through": (
        lambda: ProjectedCodebook(estimator=GumbelSoftmax(hard=True)),
        Cosine(1.0, 0.5),
    ),
    "ReinMax": (lambda: ProjectedCodebook(estimator=ReinMax(1.1)), None),
    "SQ-VAE style": (
        lambda: DistanceCodebook(estimator=GumbelSoftmax()),
        Cosine(1.0, 0.25),
    ),
    "VQ-EMA, plain": (lambda: VQ(upkeep=Upkeep(kmeans=0, revive_after=0)), None),
    "VQ-EMA, k-means and revival": (VQ, None),
    "VQ, rotation trick": (RotationVQ, None),
    "FSQ 8x8x8": (FSQ, None),
    "SimVQ": (SimVQ, None),
}


def train(name: str, seed: int, data_dir: str, steps: int) -> dict[str, object]:
    """Train one of the ways to the end of its schedule and test it.

    Args:
        name: A key of `WAYS`.
        seed: Seed of weights, noise and order.
        data_dir: Folder with `train` and `test`.
        steps: Steps of training.

    Returns:
        A row of the table.
    """
    pl.seed_everything(seed, verbose=False)
    make, tau = WAYS[name]
    model = CodebookVAE(
        network=ResNet((3, 32, 32), width=32, blocks=1),
        bottleneck=make(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-4, fused=True),
        lr_schedule=Sequential((Linear(0.01, 1.0, 0.05), Cosine(1.0, 0.01))),
    )
    data = ImageFolder(data_dir, image_size=32, batch_size=BATCH, val_size=2000, seed=seed)
    trainer = pl.Trainer(
        max_steps=steps,
        logger=False,
        # Quantizers have a constant rate, to which its weight makes no difference.
        callbacks=[Anneal("beta", WARM_UP), *([] if tau is None else [Anneal("tau", tau)])],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    start = time.perf_counter()
    trainer.fit(model, datamodule=data)
    seconds = time.perf_counter() - start
    (result,) = trainer.test(model, datamodule=data, verbose=False)
    return {
        "way": name,
        "seed": seed,
        "steps": steps,
        "batch_size": BATCH,
        **{key: round(result[f"test/{key}"], 4) for key in KEPT},
        "training_seconds": round(seconds),
    }


def main() -> None:
    """Run what is missing and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train and test")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        way, seed = args.one[0], int(args.one[1])
        warnings.filterwarnings("ignore")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        prepare_cpu()
        row = {**train(way, seed, args.data, args.steps), **machine()}
        target = _file(way, seed, args.steps)
        target.with_suffix(".part").write_text(json.dumps(row))
        target.with_suffix(".part").rename(target)
        return

    WORK.mkdir(parents=True, exist_ok=True)
    cells = [(way, seed) for seed in range(args.seeds) for way in args.ways]
    todo = [cell for cell in cells if not _file(*cell, args.steps).is_file()]
    begin = time.perf_counter()

    def run(cell: tuple[str, int]) -> None:
        command = [sys.executable, "-m", "benchmarks.codebooks", "--data", args.data]
        command += ["--steps", str(args.steps), "--one", cell[0], str(cell[1])]
        with _file(*cell, args.steps).with_suffix(".log").open("w") as out:
            subprocess.run(
                command,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
        done = _file(*cell, args.steps).is_file()
        minutes = (time.perf_counter() - begin) / 60
        print(f"{minutes:6.1f} min  {'done' if done else 'FAILED'}: {cell[0]}, seed {cell[1]}")

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, todo))
    files = {cell: _file(*cell, args.steps) for cell in cells}
    rows = [json.loads(file.read_text()) for file in files.values() if file.is_file()]
    if rows:
        # Each row says where it was measured.
        print(write_csv("codebooks", rows))
    missing = [f"{way} (seed {seed})" for (way, seed), f in files.items() if not f.is_file()]
    print("missing: " + (", ".join(missing) or "nothing"))


def _file(way: str, seed: int, steps: int) -> Path:
    slug = "-".join("".join(c if c.isalnum() else " " for c in way.lower()).split())
    return WORK / f"{slug}-{steps}-{seed}.json"


if __name__ == "__main__":
    main()
