"""Runs side by side on the command line: dvae compare runs/a runs/b."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dvae.commands import Parser, run_command
from dvae.compare.files import write_comparison
from dvae.compare.runs import find_runs, read_run
from dvae.compare.table import compare, terminal_table
from dvae.runs.files import check_folder

# Where the table goes to a file, a line is not broken.
_WIDE = 240


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0, or 2 where the input was bad. ``DVAE_TRACEBACK=1`` raises instead.
    """
    return run_command(_parser(), _main, args)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="dvae compare",
        description="Put runs side by side: the settings in which they differ, what they reached, "
        "and their curves over each other, as one page and one picture. Needs no server.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="folder of a run (runs/<experiment>/version_N), or one that holds several",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("comparison"), help="folder, default comparison"
    )
    return parser


def _main(args: argparse.Namespace) -> None:
    check_folder(args.out)
    folders, without = find_runs(args.runs)
    comparison = compare([read_run(folder) for folder in folders])
    written = write_comparison(comparison, args.out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    console.print(terminal_table(comparison))
    if comparison.warning:
        print(comparison.warning)
    for folder in without:
        print(f"left out: {folder} has no metrics.csv")
    for path in written:
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
