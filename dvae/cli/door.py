"""The door: one command with all others behind it, `dvae`, or `train.py` in a checkout."""

import os
import sys
from importlib import import_module
from typing import Any

from dvae.cli.configs import configs_command, named
from dvae.cli.help import OVERVIEW, SCHEDULE, asked_for, class_help, help_text, is_of_class
from dvae.commands import say

__all__ = ["main"]

# Tools with a command of their own, imported when they are asked for.
_TOOLS = {
    "compare": "dvae.compare.__main__",
    "compress": "dvae.coding.__main__",
    "decompress": "dvae.coding.__main__",
    "explore": "dvae.explore.__main__",
    "lab": "dvae.lab.__main__",
    "share": "dvae.sharing.__main__",
}
_RUNS = ("fit", "validate", "test", "predict")
_SCHEDULE = "schedule"


def main(args: list[str] | None = None, cli: Any = None) -> int:
    """Run a command.

    Args:
        args: Arguments; those of the process by default.
        cli: What runs a training, `DVAECLI` by default; a subclass may stop short of it.

    Returns:
        The exit code of the command; 2 where there is no such command.
    """
    given = sys.argv[1:] if args is None else list(args)
    command, rest = (given[0], given[1:]) if given else ("", [])
    if command in ("", "-h", "--help", "help"):
        print(OVERVIEW, end="")
        return 0
    if command in _TOOLS:
        tool = _TOOLS[command]
        # One that has several commands is told which.
        several = list(_TOOLS.values()).count(tool) > 1
        return int(import_module(tool).main(given if several else rest))
    try:
        if command == "configs":
            configs_command(rest)
            return 0
        if command in _RUNS:
            return _run(command, rest, cli)
        if command == _SCHEDULE:
            return _schedule(rest)
        if not command.startswith("-"):
            there = ", ".join((*_RUNS, *_TOOLS, "configs", _SCHEDULE))
            raise ValueError(f"there is no command {command!r}; there are: {there}")
        return _run("", given, cli)
    except BrokenPipeError:
        # Whoever reads has seen enough (dvae configs | head); what is left would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return say(error)


def _run(command: str, rest: list[str], cli: Any) -> int:
    part = asked_for(rest) if command else None
    if part == "":
        print(help_text(command, part, lambda: None), end="")
        return 0
    rest = named(rest)
    # Only here: it costs Lightning.
    from dvae.cli.process import main as run
    from dvae.cli.training import DVAECLI

    if part is not None:
        print(help_text(command, part, lambda: DVAECLI([command, "--help"])))
        return 0
    args = [command, *rest] if command else rest
    if is_of_class(rest):
        codes: list[int] = []
        print(class_help(lambda: codes.append(run(args, cli or DVAECLI))), end="")
        return sum(codes)  # of no run, where the parser left with the help
    return run(args, cli or DVAECLI)


def _schedule(rest: list[str]) -> int:
    if not rest or asked_for(rest) is not None:
        print(SCHEDULE, end="")
        return 0
    if not rest[0].startswith("-"):
        rest = ["--config", *rest]
    rest = named(rest)
    from dvae.cli.process import main as run
    from dvae.cli.schedule import ScheduleCLI

    return run(rest, ScheduleCLI)
