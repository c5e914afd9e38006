"""The runs that the pages show, as a new user starts them: figures, time and pictures.

python -m benchmarks.default_run [mnist_categorical | mnist_codebook]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from benchmarks.measure import RESULTS, write_csv

ROOT = Path(__file__).parent.parent
# What is kept of a run's summary.
KEPT = {
    "mnist_categorical": ("test/elbo", "test/iwae", "test/kl", "test/reconstruction", "training"),
    "mnist_codebook": (
        *("test/elbo", "test/kl", "test/psnr", "test/ssim"),
        *("test/perplexity", "test/usage", "training"),
    ),
}


def start(name: str, folder: Path, *options: str) -> str:
    """Train by a configuration as a new user would, and return what was printed.

    Args:
        name: Name of the configuration.
        folder: For the run.
        options: More of the command line.
    """
    words = [*_words(name), *options]
    print("python", *words, flush=True)
    done = subprocess.run(
        [sys.executable, *words, "--trainer.default_root_dir", str(folder)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout, flush=True)
    return done.stdout


def figures(output: str, kept: Collection[str]) -> dict[str, str]:
    """Find the figures in a run's summary.

    Args:
        output: Output of `start`.
        kept: What is looked for, ``training`` among it.
    """
    lines = [line.split() for line in output.splitlines()]
    found = {line[0]: line[1] for line in lines if line and line[0] in kept}
    found["training_seconds"] = found.pop("training")
    return found


def main() -> None:
    """Run it, write the CSV and keep the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", choices=list(KEPT), default="mnist_categorical")
    name = parser.parse_args().name
    with tempfile.TemporaryDirectory() as folder:
        found = figures(start(name, Path(folder)), KEPT[name])
        media = Path(folder) / name / "version_0" / "media"
        pictures = sorted((media / "reconstructions").iterdir())
        shutil.copy(pictures[-1], RESULTS / f"{name}.png")
        shutil.copy(media / "curves.png", RESULTS / f"{name}_curves.png")
    print(write_csv(name, [{"command": f"python {' '.join(_words(name))}", **found}]))


def _words(name: str) -> list[str]:
    return ["train.py", "fit", "--config", f"configs/{name}.yaml"]


if __name__ == "__main__":
    main()
