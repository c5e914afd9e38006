r"""Ten ways to a code on a grid, with the same network, data and number of steps.

    python -m benchmarks.codebooks --data FOLDER --steps 2000 --jobs 2
    python -m benchmarks.codebooks --data FOLDER --steps 2000 --jobs 2 --device cuda \
        --precision bf16-mixed --compile cuda-graphs --batch_size 128 --out FOLDER

FOLDER of `--data` has `train` and `test` below it, with a folder of images for each class, which
are decoded once for all runs. Every run is a process with one thread, and leaves a JSON behind in
`runs/codebooks` (or `--out`): started again, the command runs what is missing. The CSV has what is
there, is written after each run, and the last line says what is not. The second command is for one
GPU, on which two runs go side by side; its rows are in `codebooks_cuda.csv`.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measure import RESULTS, machine, read_csv, write_csv
from dvae.bottlenecks import (
    FSQ,
    VQ,
    DistanceCodebook,
    DiVeQ,
    ProjectedCodebook,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.bottlenecks.grid import GridBottleneck
from dvae.callbacks import Anneal, FeatureDistance
from dvae.callbacks.latent_codes import read_codes
from dvae.callbacks.linear_probe import probe_accuracy
from dvae.data import ImageFolder, Images
from dvae.data.images import Part
from dvae.estimators import GumbelSoftmax, ReinMax
from dvae.models import CodebookVAE
from dvae.models.overhead import prepare_cpu
from dvae.models.precision import PRECISIONS
from dvae.networks import ResNet
from dvae.schedules import Constant, Cosine, Linear, Schedule, Sequential

WORK = Path("runs/codebooks")
# Runs of before 2026-11-28 have no words for these.
FORMER = {"precision": "32-true", "compile": "false"}
KEY = ("way", "seed", "steps", "batch_size", "precision", "compile")
# One in so many test images is compared by features, which takes a tenth of a second, or probed.
COMPARED, READ = 5, 2
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
    "DiVeQ": (DiVeQ, None),
    "FSQ 8x8x8": (FSQ, None),
    "SimVQ": (SimVQ, None),
}


class Decoded(ImageFolder):
    """A folder of 32x32 images that another process has decoded.

    Args:
        pixels_file: What `decode` wrote.
        data_dir: The folder.
        batch_size: Training images in a batch.
        seed: Order of the training images.
    """

    def __init__(self, pixels_file: Path, data_dir: str, batch_size: int, seed: int) -> None:
        super().__init__(data_dir, image_size=32, batch_size=batch_size, val_size=2000, seed=seed)
        self.pixels_file = pixels_file

    def load(self, split: Part) -> Images:
        """Map the pixels into memory, which all runs share."""
        found = torch.load(self.pixels_file, mmap=True)
        return Images(*found[split])


def decode(data_dir: str, path: Path) -> None:
    """Write the pixels and labels of a folder's images to a file.

    Args:
        data_dir: Folder with `train` and `test`.
        path: The file.
    """
    data = ImageFolder(data_dir, image_size=32)
    found = {split: data.load(split) for split in ("train", "test")}
    torch.save({split: (x.images, x.labels) for split, x in found.items()}, path)


def train(name: str, seed: int, args: argparse.Namespace) -> dict[str, object]:
    """Train one of the ways to the end of its schedule and test it.

    Args:
        name: A key of `WAYS`.
        seed: Seed of weights, noise and order.
        args: Arguments of the command, and the file of `decode`.

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
        compile={"false": False, "true": True}.get(args.compile, args.compile),
    )
    data = Decoded(args.pixels, args.data, args.batch_size, seed)
    trainer = pl.Trainer(
        max_steps=args.steps,
        accelerator=args.device,
        devices=1,
        precision=args.precision,
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
        "steps": args.steps,
        "batch_size": args.batch_size,
        "precision": args.precision,
        "compile": args.compile,
        **{key: round(result[f"test/{key}"], 4) for key in KEPT},
        **features_and_probe(model, data.load("test"), args.device),
        "training_seconds": round(seconds),
    }


def features_and_probe(model: CodebookVAE, test: Images, device: str) -> dict[str, float]:
    """Compare images with reconstructions by features, and read the class from the code.

    Args:
        model: Trained.
        test: Test images, class after class: every fifth is compared, half of all are read.
        device: Where.
    """
    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        logger=False,
        callbacks=[FeatureDistance()],
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    some = DataLoader(TensorDataset(test.images[::COMPARED]), batch_size=500)
    (result,) = trainer.test(model, some, verbose=False)
    codes = read_codes(model, test.images[::READ])
    accuracy = probe_accuracy(codes.index, test.labels[::READ])
    assert accuracy is not None
    return {
        "frechet_lite1": round(result["test/frechet_lite1"], 4),
        "probe_accuracy": round(accuracy, 4),
    }


def main() -> None:
    """Run what is missing and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train and test")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="32-true")
    parser.add_argument("--compile", choices=["false", "true", "cuda-graphs"], default="false")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--out", type=Path, help="folder of the runs and of the CSV")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SEED"), help=argparse.SUPPRESS)
    parser.add_argument("--pixels", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device must be cpu")
    if args.one:
        way, seed = args.one[0], int(args.one[1])
        warnings.filterwarnings("ignore")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        prepare_cpu()
        row = {**train(way, seed, args), **machine(args.device)}
        target = _file(way, seed, args)
        target.with_suffix(".part").write_text(json.dumps(row))
        target.with_suffix(".part").rename(target)
        return

    (args.out or WORK).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        args.pixels = Path(name) / "pixels.pt"
        decode(args.data, args.pixels)
        run_all(args)


def run_all(args: argparse.Namespace) -> None:
    """Run what is missing, some side by side; write the CSV after each.

    Args:
        args: Arguments of the command, and the file of `decode`.
    """
    cells = [(way, seed) for seed in range(args.seeds) for way in args.ways]
    todo = [cell for cell in cells if not _file(*cell, args).is_file()]
    files = {cell: _file(*cell, args) for cell in cells}
    begin, one_writes = time.perf_counter(), threading.Lock()

    def write() -> None:
        found = [json.loads(file.read_text()) for file in files.values() if file.is_file()]
        name, folder = f"codebooks{_of_gpu(args)}", args.out or RESULTS
        # Those of runs that another machine has made stay.
        known = found if args.out else read_csv(name) + found
        known = [{**row, **{k: row.get(k) or v for k, v in FORMER.items()}} for row in known]
        rows = {tuple(str(row[key]) for key in KEY): row for row in known}
        if rows:
            # Each row says where it was measured.
            write_csv(name, list(rows.values()), folder)

    def run(cell: tuple[str, int]) -> None:
        command = [sys.executable, "-m", "benchmarks.codebooks", "--data", args.data]
        for option in ("steps", "device", "precision", "compile", "batch_size", "pixels"):
            command += [f"--{option}", str(getattr(args, option))]
        command += ["--out", str(args.out or WORK), "--one", cell[0], str(cell[1])]
        with files[cell].with_suffix(".log").open("w") as out:
            subprocess.run(
                command,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
        done = files[cell].is_file()
        with one_writes:
            write()
        minutes = (time.perf_counter() - begin) / 60
        print(
            f"{minutes:6.1f} min  {'done' if done else 'FAILED'}: {cell[0]}, seed {cell[1]}",
            flush=True,
        )

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, todo))
    write()
    missing = [f"{way} (seed {seed})" for (way, seed), f in files.items() if not f.is_file()]
    print("missing: " + (", ".join(missing) or "nothing"))


def _of_gpu(args: argparse.Namespace) -> str:
    return "" if args.device == "cpu" else f"_{args.device}"


def _file(way: str, seed: int, args: argparse.Namespace) -> Path:
    slug = "-".join("".join(c if c.isalnum() else " " for c in way.lower()).split())
    plain = (args.device, args.precision, args.compile, args.batch_size)
    kind = "" if plain == ("cpu", "32-true", "false", 32) else "-" + "-".join(map(str, plain))
    return (args.out or WORK) / f"{slug}-{args.steps}-{seed}{kind}.json"


if __name__ == "__main__":
    main()
