"""A report's files, all of them or none."""

import os
from pathlib import Path

from dvae.commands import write_all
from dvae.lab.plots import figures
from dvae.lab.run import Report
from dvae.lab.tables import csv_text, markdown_text
from dvae.plotting import save_figure

__all__ = ["check_folder", "write_report"]


def check_folder(folder: Path) -> None:
    """Refuse a folder that could not be written, before anything is measured.

    Args:
        folder: It need not exist.

    Raises:
        OSError: It is a file, or lies where nothing may be written.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"{existing} is not a folder")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"nothing may be written to {existing}")


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

    def write(work: Path) -> None:
        (work / "results.csv").write_text(csv_text(report), encoding="utf-8")
        (work / "results.md").write_text(markdown_text(report), encoding="utf-8")
        for name, figure in figures(report).items():
            save_figure(figure, work / f"{name}.png")

    return write_all(folder, write)
