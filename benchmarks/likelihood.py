"""The likelihood of fixed-binarised MNIST by `configs/mnist_likelihood.yaml`, a run for each seed.

    python -m benchmarks.likelihood --seeds 1 2 --data dynamic fixed

DATA is how the training images are binarised; validation and test are always of images binarised
once. Every run is the command of a new user, and leaves its folder and its output behind in
`runs/likelihood`: started again, this runs what is missing. The CSV has what is there, and keeps
the rows of before. Several
seeds side by side are several such commands, with `OMP_NUM_THREADS=1`.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.default_run import figures, start
from benchmarks.measure import RESULTS, machine, read_csv, write_csv
from dvae.runs.config import read_config

__all__ = ["main"]

WORK = Path("runs/likelihood")
CONFIG = "mnist_likelihood"
OUTPUT = "output.txt"  # there once a run has ended
# Of the summary that ends a run.
KEPT = ("test/iwae", "test/elbo", "test/kl", "test/reconstruction", "training")


def row(folder: Path) -> dict[str, object] | None:
    """Read what a run found.

    Args:
        folder: Of the run and its output.

    Returns:
        A row of the CSV; ``None`` of a run that has not ended.
    """
    output = folder / OUTPUT
    if not output.is_file():
        return None
    found = figures(output.read_text(), KEPT)
    config = read_config(_run(folder) / "config.yaml")
    return {
        "config": CONFIG,
        "data": config["data"]["init_args"]["binarization"],
        "seed": config["seed_everything"],
        "epochs": config["trainer"]["max_epochs"],
        "test_iwae": found["test/iwae"],
        "iwae_samples": config["model"]["init_args"]["evaluation"]["iwae_samples"],
        "test_elbo": found["test/elbo"],
        "test_kl": found["test/kl"],
        "test_reconstruction": found["test/reconstruction"],
        "training_seconds": found["training_seconds"],
    }


def main() -> None:
    """Run what is missing; write what is there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", nargs="+", default=["dynamic"], choices=["dynamic", "fixed"])
    args = parser.parse_args()
    for data in args.data:
        for seed in args.seeds:
            folder = WORK / f"{data}-{seed}"
            if row(folder) is None:
                words = ["--seed_everything", str(seed), "--data.binarization", data]
                output = start(CONFIG, folder.resolve(), *words)
                (folder / OUTPUT).write_text(output)
    rows: list[dict[str, str]] = []
    for folder in sorted(WORK.iterdir()):
        found = row(folder)
        if found is not None:
            rows.append({key: str(value) for key, value in {**found, **machine()}.items()})
            shutil.copy(_run(folder) / "media/curves.png", RESULTS / f"{CONFIG}_curves.png")
    new = {_key(row) for row in rows}
    print(write_csv("likelihood", [x for x in read_csv("likelihood") if _key(x) not in new] + rows))


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("data", "seed", "epochs"))


def _run(folder: Path) -> Path:
    return folder / CONFIG / "version_0"


if __name__ == "__main__":
    main()
