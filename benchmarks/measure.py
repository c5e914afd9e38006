"""What the benchmarks share: paired ratios, the description of the machine, the CSV."""

import csv
import datetime
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from dvae.devices import BFLOAT16_INSTRUCTIONS

__all__ = [
    "RESULTS",
    "Spread",
    "conditions",
    "machine",
    "mean_of",
    "milliseconds",
    "ratio",
    "read_csv",
    "spread",
    "write_csv",
]

RESULTS = Path(__file__).parent / "results"

Spread = tuple[float, float, float]


def mean_of(values: Sequence[float], digits: int = 2) -> str:
    """Write the mean, with the standard deviation of more than one value; nothing of none.

    Args:
        values: One for each seed.
        digits: Kept after the point.
    """
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the 20th and the 80th percentile.

    Args:
        values: At least one, which is all three itself.
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return statistics.median(values), cuts[1], cuts[7]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios of paired runs.

    Args:
        ours: One value a round.
        theirs: The value of the peer in the same round.
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def milliseconds(seconds: Sequence[float], digits: int = 2, prefix: str = "") -> dict[str, float]:
    """Return the columns of a time: its median, 20th and 80th percentile, ms.

    Args:
        seconds: One value a round.
        digits: Kept after the point.
        prefix: Prefix of the columns' names.
    """
    names = (f"{prefix}ms", f"{prefix}ms_p20", f"{prefix}ms_p80")
    values = (round(1e3 * x, digits) for x in spread(seconds))
    return dict(zip(names, values, strict=True))


def machine(device: str | None = None, packages: Sequence[str] = ()) -> dict[str, str]:
    """Describe where and with what the figures are measured.

    Args:
        device: ``cpu`` or ``cuda``; by default the GPU where there is one.
        packages: Whose versions are part of the comparison; one that is not installed has none.

    Returns:
        Names and values of the columns; the instruction set is what torch uses of the CPU's,
        and beside it are the instructions that it has for bfloat16.
    """
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    on_gpu = torch.cuda.is_available() if device is None else device != "cpu"
    capabilities = torch.cpu.get_capabilities()
    native = [name for name in BFLOAT16_INSTRUCTIONS if capabilities.get(name)]
    return {
        "device": torch.cuda.get_device_name() if on_gpu else cpu,
        "instruction_set": "" if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "bfloat16_instructions": "" if on_gpu else " ".join(native),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **{name.removeprefix("pytorch-"): _version(name) for name in packages},
        "date": datetime.date.today().isoformat(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""


def conditions(row: Mapping[str, object]) -> str:
    """Say where and when a row was measured; rows of before 2026-11-25 tell no instruction set.

    Args:
        row: Row of a CSV.
    """
    chosen, native = row.get("instruction_set"), row.get("bfloat16_instructions")
    device = f"{row['device']} ({chosen})" if chosen else row["device"]
    device = f"{device} with {native}" if native else device
    return f"{device}, {row['threads']} thread(s), torch {row['torch']}, {row['date']}"


def read_csv(name: str) -> list[dict[str, str]]:
    """Read the rows of a CSV of the results; none where there is no such file.

    Args:
        name: The file in ``benchmarks/results``, without its ending.
    """
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_csv(
    name: str,
    rows: Sequence[Mapping[str, object]],
    folder: Path | None = None,
    where: Mapping[str, str] | None = None,
) -> Path:
    """Write rows, each with the description of the machine.

    Args:
        name: Name of the file, without its ending.
        rows: Rows with the same keys, but that old ones may lack some and have others. One that
            names its device says itself where it was measured.
        folder: Where to; ``benchmarks/results`` by default.
        where: The description; `machine` by default.

    Returns:
        The file.
    """
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    where = machine() if where is None else where
    full = [row if "device" in row else {**row, **where} for row in rows]
    with path.open("w", newline="") as file:
        names = (name for row in full for name in row)
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], *where, *names])))
        writer.writeheader()
        writer.writerows(full)
    return path
