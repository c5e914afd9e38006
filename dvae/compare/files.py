"""A comparison's files, all of them or none."""

import os
from pathlib import Path

from dvae.commands import write_all
from dvae.compare.curves import draw_curves
from dvae.compare.page import page
from dvae.compare.table import Comparison
from dvae.plotting import save_figure

__all__ = ["check_folder", "write_comparison"]


def check_folder(folder: Path) -> None:
    """Refuse a folder that could not be written, before anything is drawn.

    Args:
        folder: It need not exist.

    Raises:
        OSError: It is a file, or lies where nothing may be written.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(f"--out {folder}: {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"--out {folder}: nothing may be written to {existing}")


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.html`` and ``curves.png``; a file appears complete or not at all.

    Args:
        comparison: Of the runs.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        OSError: They cannot be written.
    """
    curves = draw_curves([run.curves for run in comparison.runs], comparison.labels)
    html = page(comparison, curves)

    def write(work: Path) -> None:
        (work / "comparison.html").write_text(html, encoding="utf-8")
        save_figure(curves, work / "curves.png")

    return write_all(folder, write)
