"""Reproduce a published table: run what is missing, write its CSV and its page.

    python -m benchmarks.tables reinmax2023 --rows 8x16 --estimators ReinMax STGS --seeds 3

Killed and started again it goes on: finished runs are not done again, the others go on from their
last epoch. `--together` makes the runs of a row one batched model, for a GPU. `--epochs` and
`--iwae_samples` make a trial, whose results stay beside its runs and apart from those of the
protocol.
"""

import argparse
import csv
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import RESULTS, write_csv
from benchmarks.tables.page import of_cell, page
from benchmarks.tables.pool import default_jobs, run_all
from benchmarks.tables.runs import Group, Run, grouped, is_trial, shortened
from benchmarks.tables.spec import Table, choose, load, tables
from benchmarks.tables.train import Busy, result_of, train

RUNS = Path("runs/tables")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("table", help=f"one of {', '.join(tables())}, or a YAML file like theirs")
    made.add_argument("--rows", nargs="+", help="of the table, spaces or commas between; or all")
    made.add_argument("--estimators", nargs="+", help="as the table calls them; or all")
    made.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 (3)")
    made.add_argument("--epochs", type=int, help="other than the protocol's: a trial")
    made.add_argument("--iwae_samples", type=int, help="other than the table's: a trial")
    made.add_argument("--jobs", type=int, help="runs side by side; as cores and memory allow")
    made.add_argument(
        "--together",
        action="store_true",
        help="train the runs of a row as one batched model, which is for a GPU",
    )
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of CSV and page")
    made.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (runs/tables)")
    # How a process of its own is started: the parent's id, a row, estimators each with a seed.
    made.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return made


def chosen(table: Table, rows: list[str] | None, columns: list[str] | None) -> list[str]:
    """Choose cells.

    Args:
        table: The table.
        rows: Names of rows; all if None.
        columns: Names of estimators; all that this project has if None.

    Returns:
        Names of cells, in the order of the table.

    Raises:
        ValueError: There is no such row or estimator, or this project has none of that kind.
    """
    for row in rows or ():
        choose(row, table.rows, "row")
    for column in columns or ():
        choose(column, table.columns, "estimator in this table")
        if table.columns[column]["estimator"] is None:
            raise ValueError(f"{column} is in the table, but this project has no such estimator")
    return [
        name
        for name, cell in table.cells.items()
        if cell.estimator is not None
        and (rows is None or cell.row in rows)
        and (columns is None or cell.column in columns)
    ]


def report(table: Table, runs: Sequence[Run], root: Path, folder: Path, trial: bool) -> list[Path]:
    """Write the CSV, with what it had before, and the page.

    Args:
        table: As it is run.
        runs: Whose results to put in.
        root: Folder of all runs of tables.
        folder: Where CSV and page go.
        trial: Whether the runs are not those of the protocol.

    Returns:
        The files.
    """
    rows = {_key(row): row for row in read(folder / f"{table.name}.csv")}
    for run in runs:
        result = result_of(run, root)
        if result is not None:
            row = {key: str(value) for key, value in result.items()}
            rows.setdefault(_key(row), row)
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_csv(table.name, list(rows.values()), folder)] if rows else []
    files.append(folder / f"{table.name}.md")
    files[-1].write_text(page(table, list(rows.values()), trial))
    return files


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV; one that is not there is empty.

    Args:
        path: The file.
    """
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        0; 1 where a run failed; 2 where the input was bad; 130 where it was stopped.
    """
    args = parser().parse_args(argv)
    try:
        return _main(args)
    except (ValueError, Busy) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130


def _main(args: argparse.Namespace) -> int:
    published = load(args.table)
    table = shortened(published, args.epochs, args.iwae_samples)
    trial = is_trial(table, published)
    if args.child:
        return _child(args, table)
    for name, value in (("--seeds", args.seeds), ("--jobs", args.jobs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    names = chosen(table, _names(args.rows), _names(args.estimators))
    cells = [table.cells[name] for name in names]
    if not cells:
        raise ValueError("the table has no cell of these rows and estimators")
    label = f"trial-{table.epochs}-epochs-{table.iwae_samples}-samples"
    folder = args.runs / table.name / label if trial else args.results
    # Seed by seed, so that a command cut short leaves whole columns.
    runs = [Run(table, cell, seed) for seed in range(args.seeds) for cell in cells]
    known = read(folder / f"{table.name}.csv")
    there = {(cell.name, row["seed"]) for cell in cells for row in of_cell(table, cell, known)}

    def finished(run: Run) -> bool:
        written = (run.cell.name, str(run.seed)) in there
        return written or result_of(run, args.runs) is not None

    todo = [run for run in runs if not finished(run)]
    groups = grouped(todo) if args.together else [Group((run,)) for run in todo]
    jobs = min(args.jobs or default_jobs(), max(1, len(groups)))
    if trial:
        print(f"A TRIAL: {table.epochs} epoch(s), {table.iwae_samples} samples; not the protocol.")
    print(f"{len(runs) - len(todo)} of {len(runs)} runs are finished; {jobs} at a time.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def write() -> list[Path]:
        return report(table, runs, args.runs, folder, trial)

    failed = run_all(groups, args.runs, jobs, lambda group: _arguments(args, group), write)
    print(*write(), sep="\n")
    missing = [run.name for run in todo if result_of(run, args.runs) is None]
    print("missing of what was asked for: " + (", ".join(missing) or "nothing"))
    return 1 if failed else 0


def _child(args: argparse.Namespace, table: Table) -> int:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    parent, row, *members = args.child
    pairs = zip(members[::2], members[1::2], strict=True)
    group = Group(tuple(Run(table, table.cells[f"{row} {c}"], int(seed)) for c, seed in pairs))
    columns = list(dict.fromkeys(members[::2])) if len(group.runs) > 1 else []

    def command(run: Run) -> str:
        # Seeds are counted from 0, so the command that gives this one gives those before it too.
        seeds = 1 + max(one.seed for one in (group.runs if columns else (run,)))
        parts = ["python -m benchmarks.tables", args.table, "--rows", row, "--estimators"]
        parts += [shlex.quote(column) for column in columns or [run.cell.column]]
        parts += ["--seeds", str(seeds), *_trial_arguments(args)]
        return " ".join([*parts, "--together"] if columns else parts)

    train(group, args.runs, command, int(parent))
    return 0


def _arguments(args: argparse.Namespace, group: Group) -> list[str]:
    child = [str(os.getpid()), group.runs[0].cell.row]
    for run in group.runs:
        child += [run.cell.column, str(run.seed)]
    return [args.table, "--runs", str(args.runs), *_trial_arguments(args), "--child", *child]


def _trial_arguments(args: argparse.Namespace) -> list[str]:
    arguments: list[str] = []
    for name in ("epochs", "iwae_samples"):
        if getattr(args, name) is not None:
            arguments += [f"--{name}", str(getattr(args, name))]
    return arguments


def _names(arguments: list[str] | None) -> list[str] | None:
    return arguments and [name for part in arguments for name in part.split(",") if name]


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return row["table"], row["row"], row["column"], row["seed"], row["settings"]


if __name__ == "__main__":
    sys.exit(main())
