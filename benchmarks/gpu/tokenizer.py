"""`cifar10_codebook` on a folder of photographs, whole: the time, and the quality at its end.

    python -m benchmarks.gpu.tokenizer --photos FOLDER

The folder has ``train/<class>`` and ``test/<class>``; without one, some tinted digits are taken.
"""

import csv
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.part import arguments, fit, table

__all__ = ["main"]

SHOWN = ("val/psnr", "val/ssim", "val/perplexity", "val/elbo")


def main() -> None:
    """Train, and write what each epoch's validation found."""
    args = arguments(
        __doc__ or "", photos="", epochs=30, precision="bf16-mixed", compile="false", batch=128
    )
    words = ["--trainer.max_epochs", str(args.epochs), "--trainer.precision", args.precision]
    words += ["--model.compile", args.compile, "--trainer.log_every_n_steps", "50"]
    if args.photos:
        words += [
            "--data",
            "ImageFolder",
            "--data.data_dir",
            args.photos,
            "--data.image_size",
            "32",
        ]
    else:
        words += ["--data", "benchmarks.gpu.training.Tinted", "--data.val_size", "500"]
    words += ["--data.batch_size", str(args.batch)]
    with tempfile.TemporaryDirectory() as name:
        words += ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", name]
        start = time.perf_counter()
        run = fit("cifar10_codebook", Path(name), args.device, *words)
        seconds = time.perf_counter() - start
        with (run / "metrics.csv").open(newline="") as file:
            found = [row for row in csv.DictReader(file) if row.get("val/psnr")]
    rows: list[dict[str, object]] = [
        {
            "data": "photos" if args.photos else "tinted digits",
            "precision": args.precision,
            "compile": args.compile,
            "epochs": args.epochs,
            "seconds": round(seconds, 1),
            **{name: round(float(found[-1][name]), 3) for name in SHOWN},
        }
    ]
    for row in found:
        print(row["step"], *(f"{name} {float(row[name]):.3f}" for name in SHOWN))
    table("tokenizer", rows, args)


if __name__ == "__main__":
    main()
