"""Time per image of the main job over batch size, latents, categories and processes, as a plot.

    python -m benchmarks.growth

One of the four is varied at a time about the default: 200 images, 20 latents of 10 categories, one
process with a thread. Processes share the batch of 200. Each round trains every point once, through
Lightning without loggers and pictures; reported is the median of the rounds.
"""

import argparse
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from benchmarks.measure import RESULTS, conditions, machine, read_csv, spread, write_csv
from benchmarks.training import WARM_UP, Clock
from dvae.bottlenecks import CategoricalBottleneck
from dvae.data import MNIST
from dvae.estimators import GumbelSoftmax
from dvae.models import CategoricalVAE
from dvae.models.overhead import prepare_cpu
from dvae.plotting import in_style, new_figure, save_figure

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = {"batch_size": 200, "latents": 20, "categories": 10, "processes": 1}
LABELS = {
    "batch_size": "images a batch",
    "latents": "latents L",
    "categories": "categories K",
    "processes": "processes (one thread each)",
}
IMAGES = 24_000


def points(processes: int) -> list[tuple[str, int]]:
    """List what is varied and to which value.

    Args:
        processes: At most so many.
    """
    values = {
        "batch_size": (25, 50, 100, 200, 400, 800, 1600),
        "latents": (2, 5, 10, 20, 40, 80, 160),
        "categories": (2, 5, 10, 30, 100, 300, 1000),
        "processes": tuple(2**n for n in range(processes.bit_length())),
    }
    return [(name, value) for name, column in values.items() for value in column]


def train(setting: dict[str, int], images: int, device: str) -> float:
    """Train with a setting on so many images on a device; return microseconds an image."""
    count = setting["processes"]
    steps = WARM_UP + max(images // setting["batch_size"], 15)
    clock = Clock()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator=device,
        devices=count,
        strategy="ddp" if count > 1 else "auto",
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    estimator = GumbelSoftmax(1.0)
    bottleneck = CategoricalBottleneck(setting["latents"], setting["categories"], estimator)
    data = MNIST(batch_size=setting["batch_size"] // count)
    trainer.fit(CategoricalVAE(bottleneck=bottleneck), datamodule=data)
    return 1e6 * clock.seconds / ((steps - WARM_UP) * setting["batch_size"])


def train_apart(setting: dict[str, int], images: int, device: str) -> float:
    """Do so in the setting's number of processes, under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(setting["processes"]), "-m", "benchmarks.growth", "--one"]
    command += [*(str(setting[name]) for name in DEFAULT), "--images", str(images)]
    command += ["--device", device]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found = [line for line in done.stdout.splitlines() if line.startswith("microseconds ")]
    return float(found[0].split()[1])


@in_style
def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Draw a curve for each of the four, with its 20th and 80th percentile.

    Args:
        rows: Rows of the CSV.
        path: Where the picture goes.
    """
    title = f"How the cost of an image grows: {conditions(rows[0])}"
    figure = new_figure(9.0, 6.4, title)
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, LABELS.items(), strict=True):
        kept = [row for row in rows if row["varied"] == name]
        columns = [
            [float(row[key]) for row in kept]
            for key in ("value", "microseconds_per_image", "p20", "p80")
        ]
        value, median, low, high = columns
        axes.plot(value, median, marker="o")
        axes.fill_between(value, low, high, alpha=0.2, lw=0)
        axes.set_xscale("log")
        axes.set_xticks(value, [f"{x:g}" for x in value])
        axes.minorticks_off()
        axes.set_ylim(0, 1.1 * max(high))
        axes.set_xlabel(label)
        axes.set_ylabel("microseconds an image")
    save_figure(figure, path)


def main() -> None:
    """Measure, print, write the CSV and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at most")
    parser.add_argument("--images", type=int, default=IMAGES, help="trained on for each figure")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", nargs=len(DEFAULT), type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    prepare_cpu()
    if args.one:
        found = train(dict(zip(DEFAULT, args.one, strict=True)), args.images, args.device)
        if not int(os.environ.get("RANK", "0")):
            print(f"microseconds {found}", flush=True)
        return
    if args.device == "cuda":
        args.processes = min(args.processes, torch.cuda.device_count())
    times: dict[tuple[str, int], list[float]] = {point: [] for point in points(args.processes)}
    for _ in range(args.rounds):
        for name, value in tqdm(times, desc="one round"):
            run = train_apart if name == "processes" else train
            times[name, value].append(run({**DEFAULT, name: value}, args.images, args.device))
    rows: list[dict[str, object]] = []
    for (name, value), column in times.items():
        median, low, high = (round(x, 1) for x in spread(column))
        print(f"{LABELS[name]:30}{value:6}{median:10} µs an image ({low} to {high})")
        row: dict[str, object] = {"varied": name, "value": value}
        row |= {"microseconds_per_image": median, "p20": low, "p80": high, "rounds": args.rounds}
        row["images"] = args.images
        rows.append(row)
    print(write_csv("growth", rows, where=machine(args.device, ["pytorch-lightning"])))
    draw(read_csv("growth"), RESULTS / "growth.png")


if __name__ == "__main__":
    main()
