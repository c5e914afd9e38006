"""The configs that travel with the package: their names, their files, and a copy to edit."""

import difflib
import shutil
import textwrap
from itertools import takewhile
from pathlib import Path

from dvae.commands import Parser

__all__ = ["config_file", "configs_command", "named", "names"]

_FOLDER = Path(__file__).parents[1] / "configs"
_SHOWN = 110  # letters
_LISTED = "dvae configs lists them"
_HOW = f"{_LISTED}, and dvae configs copy NAME gives one to edit"


def names() -> dict[str, str]:
    """Return what each config is for, by name: the beginning of its first comment."""
    found = {}
    for path in sorted(_FOLDER.rglob("*.yaml")):
        name = path.relative_to(_FOLDER).with_suffix("").as_posix()
        if not name.startswith("sweeps/"):  # no runs
            lines = takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
            comment = " ".join(line.removeprefix("#").strip() for line in lines)
            found[name] = textwrap.shorten(comment, _SHOWN, placeholder=" ...")
    return found


def config_file(name: str) -> Path:
    """Return the file of a config.

    Args:
        name: Such as ``mnist_categorical``.

    Raises:
        ValueError: There is no such config.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? dvae configs lists them" if near else _LISTED
        raise ValueError(f"there is no config {name!r}: {hint}")
    return _FOLDER / f"{name}.yaml"


def named(args: list[str]) -> list[str]:
    """Put the file of a config for its name, wherever one is asked for and no such file is there.

    Args:
        args: Arguments of the command line.

    Raises:
        ValueError: What looks like a name is none.
    """
    given = list(args)
    for number, word in enumerate(given):
        option, is_pair, value = word.partition("=")
        if option not in ("--config", "-c"):
            continue
        place = number if is_pair else number + 1
        value = value if is_pair else (given[place] if place < len(given) else "")
        if value and not Path(value).exists() and not Path(value).suffix and "{" not in value:
            try:
                path = str(config_file(value))
            except ValueError as error:
                raise ValueError(f"--config: {error}, or give a file") from error
            given[place] = f"{option}={path}" if is_pair else path
    return given


def configs_command(args: list[str]) -> None:
    """List the configs, or copy one.

    Args:
        args: None, or ``copy NAME [FILE]``.

    Raises:
        ValueError: Other words, or there is no such config.
        FileExistsError: The file is there.
    """
    parser = Parser(prog="dvae configs", description=f"The configs of the package: {_HOW}.")
    parser.add_argument("action", nargs="?", choices=["copy"])
    parser.add_argument("name", nargs="?", help="of a config")
    parser.add_argument("file", nargs="?", type=Path, help="where to; NAME.yaml here by default")
    given = parser.parse_args(args)
    if given.action is None:
        width = max(map(len, names()))
        print("\n".join(f"{name:{width}}  {what}" for name, what in names().items()))
        return
    if given.name is None:
        raise ValueError(f"copy needs the name of a config: {_LISTED}")
    source = config_file(given.name)
    target = given.file or Path(source.name)
    if target.exists():
        raise FileExistsError(f"{target} is there already: name another file")
    shutil.copyfile(source, target)
    print(f"wrote {target}; train it by: dvae fit --config {target}")
