"""What the parts share: their arguments, their tables, and a run of the command line."""

import argparse
import csv
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import RESULTS, machine, write_csv

__all__ = ["SMALL", "arguments", "fit", "folder_of", "metrics", "now", "table", "where"]

Row = Mapping[str, object]

# What keeps a run short that is to tell on a CPU whether everything works, and no more.
SMALL = ("--data.batch_size", "16")


def folder_of(device: str) -> Path:
    """Return where tables go by default: to the results only those of a GPU.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    return RESULTS if device == "cuda" else Path("runs/gpu")


def where(device: str) -> dict[str, str]:
    """Describe where the figures are measured, the same for all tables.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    return machine(device, ["triton", "pytorch-lightning", "vector-quantize-pytorch"])


def arguments(doc: str, **defaults: Any) -> argparse.Namespace:
    """Read the arguments of a part.

    Args:
        doc: Its docstring.
        defaults: Defaults of further options, by name; their types are those of the values.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--out", type=Path, help="folder of the table; see `folder_of`")
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    args = parser.parse_args()
    args.out = args.out or folder_of(args.device)
    return args


def table(name: str, rows: Sequence[Row], args: argparse.Namespace, show: bool = True) -> None:
    """Write rows as ``gpu_NAME.csv``, and print them; those of other devices are kept.

    Args:
        name: Name of the part.
        rows: At least one, all with the same keys.
        args: Arguments, by `arguments`.
        show: Whether to print them. A part that may be cut writes after each row, and shows last.
    """
    here, others = where(args.device), list[Row]()
    path = args.out / f"gpu_{name}.csv"
    if path.is_file():
        with path.open(newline="") as file:
            others = [row for row in csv.DictReader(file) if row["device"] != here["device"]]
    write_csv(f"gpu_{name}", [*({**row, **here} for row in rows), *others], args.out, here)
    if not show:
        return
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{x:{w}}" for x, w in zip(line, widths, strict=True)))


def now(device: str) -> float:
    """Return the time, with everything done that a GPU was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def fit(config: str, folder: Path, device: str, *options: str) -> Path:
    """Train by a configuration, without the test at the end; return the folder of the run.

    Args:
        config: Its name in ``configs``.
        folder: For the run.
        device: ``cpu`` or ``cuda``.
        options: More of the command line.
    """
    from dvae.cli.process import main  # jsonargparse may be missing elsewhere
    from dvae.cli.training import DVAECLI

    class Untested(DVAECLI):
        def after_fit(self) -> None:
            return

    words = ["fit", "--config", f"configs/{config}.yaml", "--trainer.default_root_dir", str(folder)]
    words += ["--trainer.accelerator", "gpu" if device == "cuda" else "cpu"]
    words += ["--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
    words += ["--latents.every_n_epochs", "0", "--reconstructions.every_n_epochs", "0"]
    before = set(folder.glob("*/version_*/config.yaml"))
    code = main([*words, *options], Untested)
    if code:
        raise SystemExit(code)
    # A logger of its own has a folder beside the run's.
    (made,) = set(folder.glob("*/version_*/config.yaml")) - before
    return made.parent


def metrics(run: Path, name: str) -> list[float]:
    """Read a curve of a run.

    Args:
        run: Its folder.
        name: Name of the metric.
    """
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
