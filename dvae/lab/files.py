"""A report's files, all of them or none."""

from pathlib import Path

from dvae.lab.plots import figures
from dvae.lab.run import Report
from dvae.lab.tables import csv_text, markdown_text
from dvae.plotting import save_figure
from dvae.runs.files import whole_files

__all__ = ["write_report"]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write ``results.csv``, ``results.md`` and the plots; a file appears complete or not at all.

    Args:
        report: What was measured.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        OSError: They cannot be written.
    """
    with whole_files(folder) as beside:
        (beside / "results.csv").write_text(csv_text(report), encoding="utf-8")
        (beside / "results.md").write_text(markdown_text(report), encoding="utf-8")
        for name, figure in figures(report).items():
            save_figure(figure, beside / f"{name}.png")
        names = sorted(path.name for path in beside.iterdir())
    return [folder / name for name in names]
