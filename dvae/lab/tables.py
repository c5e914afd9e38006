"""A report as CSV, for programs, and as Markdown, for people."""

import csv
import datetime
import io
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from dvae.lab.run import Report, Row

__all__ = ["csv_text", "machine", "markdown_text"]

_HEADER = (
    "estimator",
    "tau",
    "bias",
    "relative variance",
    "relative error",
    "cosine",
    "cosine of one draw",
    "time",
)

_RELATIVE = ("relative_bias", "relative_variance", "relative_error")

_LEGEND = """\
- **bias**: norm of (expected gradient - reference) over the norm of the reference, the noise of
  both taken out; `< x` where none was found, x being two standard errors. In brackets the raw
  norm in nats.
- **relative variance**: E||g - E g||^2 over the squared norm of the reference.
- **relative error**: root of (squared bias + variance), over the norm of the reference.
- **cosine**: of the expected gradient with the reference, the noise of both taken out; beside it
  the mean cosine of single draws.
- **time**: of a forward and backward step relative to `GumbelSoftmax`, median of paired runs."""


def machine() -> dict[str, str]:
    """Describe where and with what the times are measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "device": cpu,
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def csv_text(report: Report) -> str:
    """Write one line an estimator and temperature, everything in full precision.

    Args:
        report: What was measured.
    """
    lines = [_values(report, row) for row in report.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown_text(report: Report) -> str:
    """Write a table of each estimator at its best temperature, and one of all.

    Args:
        report: What was measured.
    """
    stats = report.rows[0].stats
    where = machine()
    skipped = [f"- `{name}`: {reason}" for name, reason in report.skipped.items()]
    return "\n".join(
        [
            f"# Gradients of {report.title}",
            "",
            f"Reference gradient: {report.reference}; norm {stats.exact_norm:.4g} nats. Steps "
            f"timed at a batch of {report.batch} on {where['device']}, threads: "
            f"{where['threads']}, torch {where['torch']}, {where['date']}.",
            "",
            "## Each estimator at the temperature where a single draw points best",
            "",
            *_table(report.best()),
            "",
            _LEGEND,
            "",
            "## All temperatures",
            "",
            *_table(report.rows),
            *(["", "## Not measured", "", *skipped] if skipped else []),
            "",
        ]
    )


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *map(_cells, rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _cells(row: Row) -> tuple[str, ...]:
    s = row.stats
    found = s.noiseless or not s.unbiased
    bias = f"{s.relative_bias:.3g}" if found else f"< {s.relative_bias_limit:.2g}"
    return (
        f"`{row.name}`",
        "" if row.tau is None else f"{row.tau:g}",
        f"{bias} ({s.bias:.2g})",
        f"{s.relative_variance:.3g}",
        f"{s.relative_error:.3g}",
        "" if math.isnan(s.cosine) else f"{s.cosine:.3f}",
        f"{s.cosine_single:.3f}",
        f"{row.time.ratio:.2f}",
    )


def _values(report: Report, row: Row) -> dict[str, object]:
    s = row.stats
    return {
        "problem": report.title,
        "reference": report.reference,
        "estimator": row.name,
        "tau": "" if row.tau is None else row.tau,
        **asdict(s),
        **{name: getattr(s, name) for name in _RELATIVE},
        "time_ms": row.time.milliseconds,
        "time_ratio": row.time.ratio,
        "time_ratio_p20": row.time.ratio_p20,
        "time_ratio_p80": row.time.ratio_p80,
        "timed_pairs": row.time.pairs,
        "timed_batch": report.batch,
        **machine(),
    }
