"""The default run, as a new user starts it: its figures, its time and its pictures.

python -m benchmarks.default_run
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import RESULTS, write_csv

ROOT = Path(__file__).parent.parent
COMMAND = ["train.py", "fit", "--config", "configs/mnist_categorical.yaml"]
KEPT = ("test/elbo", "test/iwae", "test/kl", "test/reconstruction", "training")


def main() -> None:
    """Run it, write the CSV and keep the pictures."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, *COMMAND, "--trainer.default_root_dir", name]
        print("python", *COMMAND)
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        print(done.stdout)
        run = Path(name) / "mnist_categorical" / "version_0"
        pictures = sorted((run / "media" / "reconstructions").iterdir())
        shutil.copy(pictures[-1], RESULTS / "mnist_categorical.png")
        shutil.copy(run / "media" / "curves.png", RESULTS / "mnist_categorical_curves.png")
    words = [line.split() for line in done.stdout.splitlines()]
    figures = {line[0]: line[1] for line in words if line and line[0] in KEPT}
    figures["training_seconds"] = figures.pop("training")
    print(write_csv("mnist_categorical", [{"command": f"python {' '.join(COMMAND)}", **figures}]))


if __name__ == "__main__":
    main()
