"""What measuring the temperature costs: a training by `Tuned` and one at a constant, in turn.

python -m benchmarks.tuner_time

The recipe is that of `benchmarks.tuner`; each round trains both ways once, for as many steps as
there, since the pictures of the tuner, which count too, are the fewer the longer a run is. Rows of
other sizes and estimators stay in the CSV.
"""

import argparse
import logging
import warnings
from typing import Any

from benchmarks.measure import milliseconds, ratio, read_csv, write_csv
from benchmarks.tuner import ESTIMATORS, KEY, SIZES, train
from dvae.models.overhead import prepare_cpu

__all__ = ["main"]

# A constant temperature of the study, for each estimator.
_CONSTANT = {"STGS": "0.5", "ReinMax": "1.2"}


def main() -> None:
    """Train in turn; write the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["8x16"])
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10_000)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    prepare_cpu()
    rows: list[dict[str, Any]] = []
    for size in args.sizes:
        for estimator in args.estimators:
            ways = ["tuned", _CONSTANT[estimator]]
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for seed in range(args.rounds):
                for way in ways if seed % 2 else reversed(ways):
                    values = (size, estimator, way, 100, 1.0, args.steps, seed)
                    (row,) = train([dict(zip(KEY, values, strict=True))])
                    seconds[way].append(row["seconds"] / args.steps)
            tuned, constant = seconds.values()
            names = ("ratio", "ratio_p20", "ratio_p80")
            ratios = dict(zip(names, (round(x, 4) for x in ratio(tuned, constant)), strict=True))
            row = {"size": size, "estimator": estimator, "rounds": args.rounds, **ratios}
            rows.append(row | milliseconds(tuned) | milliseconds(constant, prefix="constant_"))
            print(rows[-1], flush=True)
    new = {(row["size"], row["estimator"]) for row in rows}
    others = [r for r in read_csv("tuner_time") if (r["size"], r["estimator"]) not in new]
    print(write_csv("tuner_time", [*others, *rows]))


if __name__ == "__main__":
    main()
