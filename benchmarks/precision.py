"""The main job to its end in each precision: how far the test figures are from each other.

python -m benchmarks.precision
"""

import tempfile
from pathlib import Path

import torch

from benchmarks.default_run import figures, start
from benchmarks.measure import write_csv

CONFIG = "mnist_categorical"


def main() -> None:
    """Train once in each precision that the machine has, and write the CSV."""
    precisions = ["32-true", "bf16-mixed"]
    if torch.cuda.is_available():
        precisions.append("16-mixed")
    rows: list[dict[str, object]] = []
    for precision in precisions:
        with tempfile.TemporaryDirectory() as folder:
            found = figures(start(CONFIG, Path(folder), "--trainer.precision", precision), CONFIG)
        difference = float(found["test/elbo"]) - float(rows[0]["test/elbo"]) if rows else 0.0  # type: ignore[arg-type]
        rows.append({"precision": precision, **found, "over_float32": round(difference, 2)})
        print(rows[-1], flush=True)
    print(write_csv("precision", rows))


if __name__ == "__main__":
    main()
