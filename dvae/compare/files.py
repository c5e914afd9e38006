"""A comparison's files, all of them or none."""

from pathlib import Path

from dvae.compare.curves import draw_curves
from dvae.compare.page import page
from dvae.compare.table import Comparison
from dvae.plotting import save_figure
from dvae.runs.files import whole_files

__all__ = ["write_comparison"]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.html`` and ``curves.png``; a file appears complete or not at all.

    Args:
        comparison: Comparison of the runs.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        OSError: They cannot be written.
    """
    curves = draw_curves(
        [run.curves for run in comparison.runs],
        comparison.labels,
        "not comparable: see the table" if comparison.warning else "",
    )
    html = page(comparison, curves)
    with whole_files(folder) as beside:
        (beside / "comparison.html").write_text(html, encoding="utf-8")
        save_figure(curves, beside / "curves.png")
    return [folder / "comparison.html", folder / "curves.png"]
