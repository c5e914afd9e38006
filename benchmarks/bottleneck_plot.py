"""The plot of the code-book benchmark, from its CSV.

python -m benchmarks.bottleneck_plot
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from benchmarks.measure import RESULTS
from dvae.lab.style import FONT, looks, new_figure

__all__ = ["draw"]

AXES = (("ms", "milliseconds a step"), ("peak_mib", "peak memory, MiB"))


def draw(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Draw time and memory over the number of codes, a pair of axes for each batch and dtype.

    Args:
        rows: Of the CSV.
        path: Where the picture goes.
    """
    # A size apart from the others would be a point off their line.
    features = rows[0]["features"]
    rows = [row for row in rows if row["features"] == features]
    groups = list(dict.fromkeys((str(r["dtype"]), int(str(r["rows"]))) for r in rows))
    look = looks(str(row["way"]) for row in rows)
    with matplotlib.rc_context(FONT):
        title = "A code book, forward and backward, over its size"
        figure = new_figure(9.0, 3.4 * len(groups), title)
        grid = figure.subplots(len(groups), 2, squeeze=False)
        for (dtype, count), line in zip(groups, grid, strict=True):
            for (column, label), axes in zip(AXES, line, strict=True):
                for name, style in look.items():
                    points = [
                        (int(str(r["codes"])), float(str(r[column])))
                        for r in rows
                        if (r["way"], r["dtype"], int(str(r["rows"]))) == (name, dtype, count)
                    ]
                    axes.plot(
                        *zip(*points, strict=True) if points else ((), ()),
                        color=style.colour,
                        marker=style.marker,
                        label=name,
                    )
                axes.set_xscale("log", base=2)
                axes.set_yscale("log")
                axes.set_xlabel("codes K")
                axes.set_ylabel(label)
                axes.set_title(f"{count} rows, {dtype}")
        grid[0][0].legend(frameon=False)
        figure.tight_layout()
        figure.savefig(path)


if __name__ == "__main__":
    with (RESULTS / "bottleneck.csv").open(newline="") as file:
        draw(list(csv.DictReader(file)), RESULTS / "bottleneck.png")
