"""What the benchmarks share: paired ratios, the description of the machine, the CSV."""

import csv
import datetime
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

__all__ = ["RESULTS", "Spread", "machine", "ratio", "spread", "write_csv"]

RESULTS = Path(__file__).parent / "results"

Spread = tuple[float, float, float]


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the 20th and the 80th percentile.

    Args:
        values: At least two.
    """
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return statistics.median(values), cuts[1], cuts[7]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios of paired runs.

    Args:
        ours: One value a round.
        theirs: The value of the peer in the same round.
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def machine() -> dict[str, str]:
    """Describe where and with what the figures are measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    return {
        "device": device,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def write_csv(name: str, rows: Sequence[Mapping[str, object]], folder: Path | None = None) -> Path:
    """Write rows, each with the description of the machine.

    Args:
        name: Of the file, without its ending.
        rows: All with the same keys. One that says itself where it was measured is believed.
        folder: Where to; ``benchmarks/results`` by default.

    Returns:
        The file.
    """
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    where = machine()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], *where])))
        writer.writeheader()
        writer.writerows({**where, **row} for row in rows)
    return path
