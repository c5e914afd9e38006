"""The likelihood of fixed-binarised MNIST by `configs/mnist_likelihood.yaml`, a run for each seed.

    python -m benchmarks.likelihood --seeds 1 2 --data dynamic fixed

Each is two runs, the second of `configs/mnist_likelihood_iwae.yaml` from the first's weights. DATA
is how the training images are binarised; validation and test are always of images binarised once.
Every run is the command of a new user, and leaves its folder and its output behind in
`runs/likelihood`: started again, this runs what is missing. The CSV has what is there, and keeps
the rows of before. Several seeds side by side are several such commands, with `OMP_NUM_THREADS=1`.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.default_run import figures, start
from benchmarks.measure import RESULTS, machine, read_csv, write_csv
from dvae.runs.config import read_config

__all__ = ["main"]

WORK = Path("runs/likelihood")
FIRST, SECOND = CONFIGS = ("mnist_likelihood", "mnist_likelihood_iwae")
# Of the summary that ends a run.
KEPT = ("test/iwae", "test/elbo", "test/kl", "test/reconstruction", "training")


def row(folder: Path, name: str) -> dict[str, object] | None:
    """Read what a run found.

    Args:
        folder: Of the seed's runs and their outputs.
        name: Configuration of the run.

    Returns:
        A row of the CSV, the time its own; ``None`` of a run that has not ended.
    """
    output = _output(folder, name)
    if not output.is_file():
        return None
    found = figures(output.read_text(), KEPT)
    config = read_config(_run(folder, name) / "config.yaml")
    return {
        "config": name,
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--data", nargs="+", default=["dynamic"], choices=["dynamic", "fixed"])
    args = parser.parse_args()
    for data in args.data:
        for seed in args.seeds:
            folder = WORK / f"{data}-{seed}"
            words = ["--seed_everything", str(seed), "--data.binarization", data]
            _train(folder, FIRST, *words)
            _train(folder, SECOND, *words, "--init_from", str(_run(folder, FIRST).resolve()))
    rows: list[dict[str, str]] = []
    for folder, name in ((f, n) for f in sorted(WORK.iterdir()) for n in CONFIGS):
        found = row(folder, name)
        if found is not None:
            rows.append({key: str(value) for key, value in {**found, **machine()}.items()})
            shutil.copy(_run(folder, name) / "media/curves.png", RESULTS / f"{name}_curves.png")
    new = {_key(row) for row in rows}
    print(write_csv("likelihood", [x for x in read_csv("likelihood") if _key(x) not in new] + rows))


def _train(folder: Path, name: str, *words: str) -> None:
    if row(folder, name) is None:
        output = start(name, folder.resolve(), *words)
        _output(folder, name).write_text(output)


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("config", "data", "seed", "epochs"))


def _output(folder: Path, name: str) -> Path:
    """Return the place of a run's output, which is there once it has ended."""
    return folder / f"{name}.txt"


def _run(folder: Path, name: str) -> Path:
    return folder / name / "version_0"


if __name__ == "__main__":
    main()
