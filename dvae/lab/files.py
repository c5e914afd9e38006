"""A report's files, all of them or none."""

from pathlib import Path

from dvae.callbacks.tuner_plot import draw_errors
from dvae.lab.plots import figures
from dvae.lab.run import Report
from dvae.lab.tables import csv_text, markdown_text
from dvae.plotting import save_figure
from dvae.runs.checkpoints import read_checkpoint
from dvae.runs.files import whole_files

__all__ = ["write_report", "write_tuners"]


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


def write_tuners(checkpoint: Path, folder: Path) -> list[Path]:
    """Draw what the tuners of a training have found until a checkpoint.

    Args:
        checkpoint: The file.
        folder: Made if it is not there.

    Returns:
        The pictures.

    Raises:
        OSError: They cannot be written.
        ValueError: The checkpoint cannot be read, or is of a training without a tuner.
    """
    states = read_checkpoint(checkpoint).get("callbacks", {}).values()
    tuners = [state["tuner"] for state in states if "tuner" in state]
    if not tuners:
        raise ValueError(f"{checkpoint} has no tuner: train with --anneal.tau Tuned")
    names = [f"{tuner['title']}.png" for tuner in tuners]
    with whole_files(folder) as beside:
        for name, tuner in zip(names, tuners, strict=True):
            save_figure(draw_errors(tuner["taus"], tuner["history"]), beside / name)
    return [folder / name for name in names]
