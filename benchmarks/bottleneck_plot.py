"""The plot of the code-book benchmark, from its CSV.

python -m benchmarks.bottleneck_plot
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measure import RESULTS, conditions, read_csv
from dvae.plotting import in_style, new_figure, point_styles, save_figure

__all__ = ["draw"]

AXES = (("ms", "milliseconds a step"), ("peak_mib", "peak memory, MiB"))


@in_style
def draw(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Draw time and memory over the number of codes: axes for each device, dtype and batch.

    Args:
        rows: Rows of the CSV.
        path: Where the picture goes.
    """
    # A size apart from the others would be a point off their line.
    counts = Counter(_group(row) for row in rows if row["way"] == "fused")
    rows = [row for row in rows if counts[_group(row)] > 1]
    groups = list(dict.fromkeys(_group(row) for row in rows))
    styles = point_styles(str(row["way"]) for row in rows)
    title = "A code book, forward and backward, over its size"
    figure = new_figure(9.0, 3.4 * len(groups), title)
    grid = figure.subplots(len(groups), 2, squeeze=False)
    for group, line in zip(groups, grid, strict=True):
        for (column, label), axes in zip(AXES, line, strict=True):
            for name, style in styles.items():
                points = [
                    (int(str(r["codes"])), float(str(r[column])))
                    for r in rows
                    if (r["way"], _group(r)) == (name, group)
                ]
                points.sort()
                found = zip(*points, strict=True) if points else ((), ())
                axes.plot(*found, label=name, **style)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xlabel("codes K")
            axes.set_ylabel(label)
            axes.set_title("{2} rows, {1}; C {3}, D {4}".format(*group))
        first = next(row for row in rows if _group(row) == group)
        line[0].text(0, 1.12, conditions(first), transform=line[0].transAxes, fontsize=7)
    grid[0][0].legend()
    save_figure(figure, path)


def _group(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("device", "dtype", "rows", "features", "dim"))


if __name__ == "__main__":
    draw(read_csv("bottleneck"), RESULTS / "bottleneck.png")
