"""The main job in each precision: how far the test figures are from each other.

python -m benchmarks.precision                        # float32 and bfloat16
python -m benchmarks.precision bf16-mixed 16-mixed    # fp16 on a CPU, too

On a CPU Lightning replaces 16-mixed by bf16-mixed, so its plugin is named instead: the same casts
and the same scaling of the loss, by torch's kernels for a CPU. Without instructions for half
precision these, and those of bfloat16, take many times as long as float32.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import yaml

from benchmarks.default_run import KEPT, ROOT, figures, start
from benchmarks.measure import RESULTS, read_csv, write_csv

CONFIG = "mnist_categorical"
HALF = {
    "class_path": "pytorch_lightning.plugins.precision.MixedPrecision",
    "init_args": {"precision": "16-mixed", "device": "cpu"},
}


def options(precision: str) -> list[str]:
    """Say the precision on the command line."""
    if precision == "16-mixed" and not torch.cuda.is_available():
        return ["--trainer.plugins", json.dumps([HALF])]
    return ["--trainer.precision", precision]


def main() -> None:
    """Train in float32, then in the others, and write the CSV; rows of another length are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("precisions", nargs="*", metavar="precision", help="beside 32-true")
    config = yaml.safe_load((ROOT / "configs" / f"{CONFIG}.yaml").read_text())
    parser.add_argument("--epochs", type=int, default=config["trainer"]["max_epochs"])
    parser.add_argument("--samples", type=int, default=100, help="of the test's bound")
    args = parser.parse_args()
    others = ["bf16-mixed", *(["16-mixed"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, object]] = []
    for precision in ["32-true", *(args.precisions or others)]:
        with tempfile.TemporaryDirectory() as folder:
            said = [*options(precision), "--trainer.max_epochs", str(args.epochs)]
            said += ["--model.evaluation.iwae_samples", str(args.samples)]
            found = figures(start(CONFIG, Path(folder), *said), KEPT[CONFIG])
        difference = float(found["test/elbo"]) - float(rows[0]["test/elbo"]) if rows else 0.0  # type: ignore[arg-type]
        row = {"precision": precision, "epochs": args.epochs, "iwae_samples": args.samples}
        rows.append({**row, **found, "over_float32": round(difference, 2)})
        print(rows[-1], flush=True)
    before = read_csv("precision") if (RESULTS / "precision.csv").is_file() else []
    kept = [row for row in before if row["epochs"] != str(args.epochs)]
    print(write_csv("precision", [*rows, *kept]))


if __name__ == "__main__":
    main()
