"""Two hundred steps of three configurations, in three precisions: the losses are the CPU's.

The CPU trains beside the GPU. Random numbers are not the same on both, so what is compared is the
mean loss of the last quarter. Without a GPU the CPU takes forty steps, in single and half
precision.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.part import SMALL, arguments, fit, metrics, table
from dvae.data import MNIST, Images
from dvae.devices import multiplies_bfloat16

__all__ = ["TOLERANCE", "Tinted"]

CONFIGS = ("mnist_categorical", "mnist_codebook", "cifar10_codebook")
# In parts of what the loss has fallen by since the first step.
TOLERANCE = 0.03

Row = dict[str, Any]


class Tinted(MNIST):
    """The bundled digits at 32x32 in colours, for what is made for photographs."""

    name = "tinted"
    image_shape = (3, 32, 32)

    def load(self, split: str) -> Images:
        """Read a split; see `dvae.data.ImageDataModule.load`."""
        found = super().load(split)
        pixels = torch.nn.functional.pad(found.images[:6000], (2, 2, 2, 2))
        number = torch.arange(len(pixels)).view(-1, 1, 1, 1)
        share = torch.cat([(number * prime % 200 + 56) for prime in (37, 59, 83)], 1)
        tinted = (pixels.int() * share // 256).to(torch.uint8)
        return Images(tinted, found.labels[:6000])


def options(config: str, steps: int, folder: Path) -> list[str]:
    """Return what makes a run short and even: no validation, every loss logged."""
    words = ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
    words += ["--trainer.log_every_n_steps", "1"]
    words += ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(folder)]
    if config.startswith("cifar10"):
        words += ["--data.class_path", "benchmarks.gpu.training.Tinted", "--data.val_size", "500"]
        words += ["--data.batch_size", "32"]  # which a CPU trains as long as a GPU its three
    return words


def losses_of(args: argparse.Namespace, precisions: Sequence[str], folder: Path) -> list[Row]:
    """Train every configuration on a device, and write after each run.

    Args:
        args: Arguments of the part.
        precisions: Precisions of the runs.
        folder: Folder for the runs.
    """
    device, steps = args.device, args.steps or (40 if args.small else 200)
    rows: list[Row] = []
    for config in CONFIGS:
        for precision in precisions:
            start = time.perf_counter()
            words = [*options(config, steps, folder), "--trainer.precision", precision]
            words += ["--experiment", f"{config}-{device}-{precision}"]
            words += SMALL if args.small and config.startswith("cifar10") else ()
            losses = metrics(fit(config, folder, device, *words), "train/loss")
            rows.append(
                {
                    "config": config,
                    "on": device,
                    "precision": precision,
                    "first_loss": round(losses[0], 3),
                    "loss": round(sum(losses[-(steps // 4) :]) / (steps // 4), 3),
                    "seconds": round(time.perf_counter() - start, 1),
                    "steps": len(losses),
                }
            )
            print(rows[-1], flush=True)
            table("training", rows, args, show=False)
    return rows


def main() -> None:
    """Train, and fail where a loss is far from the CPU's."""
    args = arguments(__doc__ or "", steps=0, threads=1, beside=0)
    args.small = args.device == "cpu" and not args.beside
    torch.set_num_threads(args.threads if args.device == "cpu" else 4)
    with tempfile.TemporaryDirectory() as name:
        if args.device == "cpu":
            both = args.small and multiplies_bfloat16() is not False
            rows = losses_of(args, ["32-true", *(["bf16-mixed"] if both else [])], Path(name))
        else:
            command = [sys.executable, "-m", "benchmarks.gpu.training", "--device", "cpu"]
            command += ["--beside", "1", "--steps", str(args.steps), "--threads", "8"]
            command += ["--out", name]
            beside = subprocess.Popen(command)
            rows = losses_of(args, ["32-true", "bf16-mixed", "16-mixed"], Path(name))
            beside.wait()
            with (Path(name) / "gpu_training.csv").open(newline="") as file:
                of_cpu = list(csv.DictReader(file))
            rows = [{key: row[key] for key in rows[0]} for row in of_cpu] + rows
    single = [row for row in rows if row["on"] == "cpu" and row["precision"] == "32-true"]
    known = {row["config"]: row for row in single}
    for row in rows:
        of_cpu = {name: float(known[row["config"]][name]) for name in ("first_loss", "loss")}
        fall = of_cpu["first_loss"] - of_cpu["loss"]
        row["apart"] = round((float(row["loss"]) - of_cpu["loss"]) / fall, 4)
    table("training", rows, args)
    far = [row for row in rows if abs(row["apart"]) > TOLERANCE]
    sys.exit(f"far from the CPU's loss: {far}" if far else 0)


if __name__ == "__main__":
    main()
