"""A prior trained with the model against the same prior trained afterwards, at the same budget.

    OMP_NUM_THREADS=1 python -m benchmarks.priors --seeds 1 2 3

The model is that of `configs/mnist_prior.yaml`, 20 latents of 10 categories, and the same config
trains all of it: with a uniform prior for all epochs; with the prior for all epochs; and with a
uniform prior for half of them and then, all else frozen, the prior alone for the other half, from
draws of q or from the most probable codes. Bounds are of all test images. Runs are left in
`runs/priors`; started again, this runs what is missing.
"""

import argparse
from pathlib import Path

from benchmarks.default_run import start
from benchmarks.measure import machine, write_csv
from dvae.runs.curves import read_curves

__all__ = ["main"]

WORK = Path("runs/priors")
# A masked perceptron and a transformer of as many weights (those not masked), and the histogram.
PRIORS: dict[str, dict[str, int]] = {
    "CategoricalPrior": {},
    "MADEPrior": {"width": 32, "depth": 1},
    "AutoregressivePrior": {"width": 120, "depth": 3, "heads": 4},
}
FROZEN = "[encoder, bottleneck, decoder, likelihood]"
KEPT = ("iwae", "elbo", "kl", "reconstruction", "prior_bits", "prior_bits_per_token")


def train(name: str, seed: int, epochs: int, *options: str) -> dict[str, float]:
    """Train one model, unless it is there, and return what its test found.

    Args:
        name: Name of the run.
        seed: Seed of everything.
        epochs: Passes over the data.
        options: More of the command line.
    """
    metrics = folder(name, seed) / "metrics.csv"
    found = _tested(metrics)
    if not found:
        words = ["--seed_everything", str(seed), "--trainer.max_epochs", str(epochs)]
        words += ["--experiment", f"{name}-{seed}", *options]
        start("mnist_prior", WORK.resolve(), *words)
        found = _tested(metrics)
    return found


def folder(name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return WORK / f"{name}-{seed}" / "version_0"


def prior(name: str) -> list[str]:
    """Return the words that choose a prior of `PRIORS`."""
    settings = ", ".join(f"{key}: {value}" for key, value in PRIORS[name].items())
    return ["--model.prior", f"{{class_path: {name}, init_args: {{{settings}}}}}"]


def main() -> None:
    """Run what is missing; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=24, help="of a whole training, even")
    parser.add_argument("--priors", nargs="+", choices=list(PRIORS), default=list(PRIORS))
    args = parser.parse_args()
    rows: list[dict[str, object]] = []

    def add(kind: str, way: str, seed: int, found: dict[str, float]) -> None:
        values = {f"test_{key}": round(found[key], 3) for key in KEPT if key in found}
        empty = {f"test_{key}": "" for key in KEPT}
        row = {"prior": kind, "trained": way, "seed": seed, "epochs": args.epochs}
        rows.append({**row, **empty, **values, **machine()})
        print(rows[-1], flush=True)
        write_csv("priors", rows)

    half = args.epochs // 2
    uniform = ["--model.prior", "UniformPrior"]
    for seed in args.seeds:
        whole = train("uniform", seed, args.epochs, *uniform)
        add("UniformPrior", "", seed, whole)
        train("uniform-half", seed, half, *uniform)
        for kind in args.priors:
            add(kind, "with the model", seed, train(kind, seed, args.epochs, *prior(kind)))
            for codes in ("draws", "mode"):
                words = ["--init_from", str(folder("uniform-half", seed).resolve())]
                words += ["--model.objective", "PriorLikelihood", "--finetune.freeze", FROZEN]
                words += ["--model.objective.codes", codes]
                found = train(f"{kind}-{codes}", seed, half, *prior(kind), *words)
                add(kind, f"afterwards, from {codes}", seed, found)


def _tested(metrics: Path) -> dict[str, float]:
    if not metrics.is_file():
        return {}
    curves = read_curves(metrics)
    tests = {name.removeprefix("test/"): curves[name] for name in curves if "test/" in name}
    return {name: points[-1][1] for name, points in tests.items() if points}


if __name__ == "__main__":
    main()
