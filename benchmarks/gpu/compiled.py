"""What the compiler and captured graphs do for a training loop: images a second, and the losses."""

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.part import SMALL, arguments, fit, metrics, table
from benchmarks.gpu.training import options

__all__ = ["main"]

LAST = 50


def main() -> None:
    """Train each way, and fail where the losses part."""
    args = arguments(__doc__ or "", steps=0)
    on_gpu = args.device == "cuda"
    steps = args.steps or (400 if on_gpu else 60)
    if on_gpu:
        torch.set_num_threads(4)
    ways = ("false", "true", "cuda-graphs") if on_gpu else ("false", "true")
    configs = ("mnist_categorical", "mnist_codebook") if on_gpu else ("mnist_categorical",)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for config in configs:
            for way in ways:
                words = options(config, steps, Path(name))
                words += () if on_gpu else SMALL
                words += ["--model.compile", way, "--experiment", f"{config}-{way}"]
                start = time.perf_counter()
                losses = metrics(fit(config, Path(name), args.device, *words), "train/loss")
                first = losses if not rows or rows[-1]["config"] != config else None
                loss = sum(losses[-LAST:]) / len(losses[-LAST:])
                of_plain = (
                    loss if first else rows[[r["config"] for r in rows].index(config)]["loss"]
                )
                rows.append(
                    {
                        "config": config,
                        "compile": way,
                        "loss": round(loss, 3),
                        "over_plain": round(loss / float(str(of_plain)), 4),
                        "seconds": round(time.perf_counter() - start, 1),
                    }
                )
                print(rows[-1], flush=True)
                table("compiled", rows, args, show=False)
    table("compiled", rows, args)
    far = [row for row in rows if abs(float(str(row["over_plain"])) - 1) > 0.03]
    sys.exit(f"far from the plain loss: {far}" if far else 0)


if __name__ == "__main__":
    main()
