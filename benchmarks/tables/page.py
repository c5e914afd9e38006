"""The CSV of a table as a Markdown page: ours beside the published figures."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.measure import mean_of
from benchmarks.tables.runs import Run
from benchmarks.tables.spec import METRICS, Cell, Table

__all__ = ["averages", "of_cell", "page"]

Rows = Sequence[Mapping[str, str]]

_NAMES = {
    "train_negative_elbo": "train -ELBO",
    "test_negative_elbo": "test -ELBO",
    "test_negative_iwae": "test -bound",
}
_READ = {
    "re-read": "The published figures were read in the source.",
    "recalled": "The published figures are recalled: they were not read again in the source.",
    "computed": "The published figures are computed from the authors' result files.",
}


def of_cell(table: Table, cell: Cell, rows: Rows) -> list[Mapping[str, str]]:
    """Choose the rows that a cell's runs have left: same settings, length and draws among them.

    Args:
        table: As it is run.
        cell: One of its cells.
        rows: Rows of the CSV.

    Returns:
        One row a seed.
    """
    if cell.estimator is None:
        return []
    settings = Run(table, cell, 0).settings
    found = {
        row["seed"]: row
        for row in rows
        if (row["table"], row["row"], row["column"]) == (table.name, cell.row, cell.column)
        and row["settings"] == settings
    }
    return [found[seed] for seed in sorted(found, key=int)]


def averages(table: Table, rows: Rows) -> dict[str, tuple[float, float]]:
    """Average what is published and ours over the sizes, where all of an estimator's have been run.

    Args:
        table: As it is run.
        rows: Rows of the CSV.

    Returns:
        Both averages of the table's metric, nats per example, for each such estimator.
    """
    found = {}
    for column in table.columns:
        cells = [cell for cell in table.cells.values() if cell.column == column]
        published = [cell.published for cell in cells if cell.published is not None]
        runs = [of_cell(table, cell, rows) for cell in cells]
        if len(cells) > 1 and len(published) == len(cells) and all(runs):
            ours = [statistics.fmean(float(run[table.metric]) for run in each) for each in runs]
            found[column] = statistics.fmean(published), statistics.fmean(ours)
    return found


def page(table: Table, rows: Rows, trial: bool = False) -> str:
    """Make the page; a function of nothing but its arguments.

    Args:
        table: As it is run.
        rows: Rows of the CSV.
        trial: Whether the runs are not those of the protocol.

    Returns:
        Markdown.
    """
    label = "TRIAL, not the protocol: " if trial else ""
    lines = [f"# {label}{table.title}", "", f"{table.source}. {_READ[table.read]}", ""]
    if trial:
        lines += [f"{table.epochs} epoch(s), a bound of {table.iwae_samples} draws.", ""]
    lines += ["Nats per example, lower is better; mean ± standard deviation over the seeds.", ""]
    for row, sizes in table.rows.items():
        cells = [cell for cell in table.cells.values() if cell.row == row]
        lines += [f"## {row}: {sizes['latents']} latents of {sizes['codes']} categories", ""]
        lines += _grid(table, cells, rows)
    for column, (theirs, mean) in averages(table, rows).items():
        lines += [f"Average over the sizes, {column}: published {theirs:.2f}, ours {mean:.2f}.", ""]
    ours = [cell for cell in table.cells.values() if cell.estimator is not None]
    missing = [cell.name for cell in ours if not of_cell(table, cell, rows)]
    absent = [cell.name for cell in table.cells.values() if cell.estimator is None]
    lines += [f"Missing: {', '.join(missing) or 'nothing'}.", ""]
    if absent:
        lines += [f"This project has no estimator for: {', '.join(absent)}.", ""]
    lines += ["## Protocol", "", f"Published: {table.protocol}", ""]
    if table.choices:
        lines += ["Not stated there, and chosen here:", ""]
        lines += [*(f"- {choice}" for choice in table.choices), ""]
    lines += [
        "Ours: train -ELBO is the mean of the training loss over the last epoch, each batch at the "
        "weights that it met and at the code that the estimator sends forward; test -ELBO and the "
        f"bound of {table.iwae_samples} importance samples are on the 10,000 test images, at hard "
        "codes drawn exactly from the posterior, after the last epoch.",
        "",
    ]
    lines += _where([row for cell in ours for row in of_cell(table, cell, rows)])
    return "\n".join(lines).rstrip() + "\n"


def _grid(table: Table, cells: Sequence[Cell], rows: Rows) -> list[str]:
    shown = [table.metric, *(name for name in METRICS if name != table.metric)]
    head = ["estimator", f"published, {_NAMES[table.metric]}"]
    head += [f"ours, {_NAMES[table.metric]}", "ours - published"]
    head += [f"ours, {_NAMES[name]}" for name in shown[1:]]
    head += ["seeds", "settings"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for cell in cells:
        runs = of_cell(table, cell, rows)
        first = [float(run[table.metric]) for run in runs]
        difference = ""
        if first and cell.published is not None:
            difference = f"{statistics.fmean(first) - cell.published:+.2f}"
        entries = [cell.column, _published(cell), mean_of(first), difference]
        entries += [mean_of([float(run[name]) for run in runs]) for name in shown[1:]]
        entries += [", ".join(run["seed"] for run in runs), _settings(cell)]
        lines.append(f"| {' | '.join(entries)} |")
    return [*lines, ""]


def _settings(cell: Cell) -> str:
    if cell.estimator is None:
        return ""
    parts = {**cell.estimator, **cell.optimizer}
    names = [f"`{cell.estimator['class']}`", cell.optimizer["class"]]
    moved = [f"{name} by {recipe['class']}" for name, recipe in cell.anneal.items()]
    return ", ".join([*names, *(f"{k} {v}" for k, v in parts.items() if k != "class"), *moved])


def _published(cell: Cell) -> str:
    if cell.published is None:
        return ""
    # As many digits as the source gives.
    return f"{cell.published}" if cell.spread is None else f"{cell.published} ± {cell.spread:.2f}"


def _where(runs: Rows) -> list[str]:
    if not runs:
        return []
    lines = ["## Measured", ""]
    machines: dict[str, list[Mapping[str, str]]] = {}
    for run in runs:
        where = f"{run['device']}, {run['threads']} thread(s), torch {run['torch']}"
        machines.setdefault(where, []).append(run)
    for where, those in machines.items():
        seconds = [float(run["training_seconds"]) for run in those]
        dates = sorted({run["date"] for run in those})
        lines.append(
            f"- {len(those)} run(s) of {min(seconds):.0f} to {max(seconds):.0f} seconds of "
            f"training: {where}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, commit(s) "
            f"{', '.join(sorted({run['commit'] for run in those}))}"
        )
    return lines
