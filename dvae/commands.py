"""What the commands beside train.py share: one-line errors."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dvae.extras import MissingExtra

__all__ = ["Parser", "run_command", "say"]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving.

        Args:
            message: What is wrong.

        Raises:
            ValueError: Always.
        """
        raise ValueError(message)

    def add_trusted(self) -> None:
        """Add ``--trusted``, which is a list."""
        self.add_argument(
            "--trusted",
            action="append",
            default=[],
            metavar="PACKAGE",
            help="package of your own whose classes the model or its data may be of; any number",
        )


def run_command(
    parser: argparse.ArgumentParser,
    command: Callable[[argparse.Namespace], object],
    args: Sequence[str] | None,
) -> int:
    """Run a command, bad input being one line.

    Args:
        parser: Parser of its arguments.
        command: What to do with them.
        args: Arguments; those of the process by default.

    Returns:
        The exit code: 0, or 2 where the input was bad. ``DVAE_TRACEBACK=1`` raises instead.
    """
    try:
        command(parser.parse_args(args))
    except (ValueError, OSError, MissingExtra) as error:
        return say(error)
    return 0


def say(error: Exception, line: str | None = None, code: int = 2) -> int:
    """Say in one line what is wrong.

    Args:
        error: Error that ended a command.
        line: What to say of it; its message by default.
        code: Exit code of the process.

    Returns:
        The code. ``DVAE_TRACEBACK=1`` raises the error instead.
    """
    if os.environ.get("DVAE_TRACEBACK"):
        raise error
    print(f"error: {line or ' '.join(str(error).split())}", file=sys.stderr)
    return code
