"""Bad input, said in one line."""

import ast
import difflib
import inspect
import pydoc
import re
from typing import Any

import torch

from dvae.cli.help import key_hint
from dvae.runs.former import FORMER
from dvae.schedules import Mover, Schedule

__all__ = ["one_line", "out_of_reach"]

_OPTION = re.compile(r"Option '([^']+)' is not accepted")
_CLASS = re.compile(
    r"(?:Expected a dot import path string: (\S+)"
    r"|Unexpected import path format: (\S+)"
    r"|Not a valid subclass of \w+\. Got value: (\S+))"
)
_ABSTRACT = re.compile(r"Expected an instantiatable class, but (\S+) is abstract")
_CLASS_PATH = re.compile(r"Problem with given class_path '([^']+)'")
_BASE = re.compile(r"Subtypes: \[<class '([^']+)'>")
_KEY = re.compile(r'Parser key "([^"]+)":')
# What the parser says about the alternatives that it also tried.
_NOISE = re.compile(
    r"Does not validate against|^Subtypes:|^Errors:|^Given value|Expected a <class 'NoneType'>"
    r"|^Problem with given class_path '[^']+':$|either not accessible or invalid$"
)
_LONGEST = 400
# A worker process of a data loader sends its whole report; the last line is the message.
_WORKER = re.compile(r"(?ms)\ACaught \w+ in DataLoader worker.*^\w[\w.]*: (.*)\Z")
# What the parser's own code trips over when a value has another kind than it takes for granted.
_TRIPPED = (
    (re.compile(r"'(\w+)' object has no attribute '\w+'"), r"settings were expected; got a \1"),
    (re.compile(r"unhashable type: '(\w+)'"), r"a name was expected; got a \1"),
    (
        re.compile(r".*\btried to allocate ([\d.]+ \w+).*", re.DOTALL | re.IGNORECASE),
        r"out of memory: \1 were asked for at once; a smaller batch, fewer samples or fewer codes "
        "take less",
    ),
    (
        re.compile(r"(\S+) does not have a deterministic implementation.*", re.DOTALL),
        r"\1 has no deterministic version here: set trainer.deterministic to warn, or to false",
    ),
)


def out_of_reach(error: BaseException) -> bool:
    """Tell whether the machine cannot do what was asked for, so that a setting has to change.

    Args:
        error: What was raised: a device, or the machine itself, has no memory left, or an operation
            has no deterministic version.
    """
    signs = ("can't allocate memory", "does not have a deterministic implementation")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)


def one_line(error: BaseException) -> str:
    """Reduce an error to one line for people.

    The parser reports a wrong value together with all that it tried on the way to it; what is
    wanted is the innermost message, the key it belongs to, and what is allowed there.

    Args:
        error: What was raised.
    """
    text = str(error).strip() or type(error).__name__
    text = _WORKER.sub(r"\1", text)
    for pattern, plain in _TRIPPED:
        text = pattern.sub(plain, text)
    said = _unknown_option(text) or _unknown_class(text) or _no_class(text)
    said = said or _innermost(text) or _summary(text)
    return said + key_hint(said)


def _summary(text: str) -> str:
    plain = re.sub(r"\s+", " ", text)
    if len(plain) <= _LONGEST:
        return plain
    kinds = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", plain))
    expected = f"; expected {' or '.join(kinds)}" if kinds else ""
    return f"{_path(text, len(text))}: the value there is of no kind that is allowed{expected}"


def _unknown_option(text: str) -> str | None:
    found = _OPTION.search(text)
    if not found:
        return None
    option = found.group(1)
    if option == "class_path":
        given = re.search(r"Given value: (\{.*\})", text)
        keys = list(_literal(given.group(1))) if given else []
        return (
            f"{_path(text, found.start())}: a class is written as class_path and init_args; "
            f"got the keys {', '.join(keys)}"
        )
    paths = [m.group(1) for m in _CLASS_PATH.finditer(text, 0, found.start())]
    if not paths:
        return re.sub(r"\s+", " ", text)
    cls: Any = pydoc.locate(paths[-1])
    try:
        allowed = [] if cls is None else list(inspect.signature(cls).parameters)
    except ValueError:
        # Of torch.Tensor, which optimizers name as an alternative to a number.
        return f"{_path(text, found.start())}: a number was expected; got settings ({option})"
    name = paths[-1].rsplit(".", 1)[-1]
    if name == "ImageFolder" and option in FORMER:
        return f"{name}.{option} is now {FORMER[option]}"
    return f"{name} has no setting {option!r}{_suggest(option, allowed)}"


def _unknown_class(text: str) -> str | None:
    found = _CLASS.search(text)
    if not found:
        return None
    name = next(group for group in found.groups() if group).strip("'\"")
    bases = [m.group(1) for m in _BASE.finditer(text, 0, found.start())]
    base: Any = pydoc.locate(bases[-1]) if bases else None
    if base is None:
        return f"{_path(text, found.start())}: there is no class {name!r}"
    # Of what a temperature takes, nearly all are schedules.
    kind = Schedule if base is Mover else base
    return f"there is no {kind.__name__} called {name!r}{_suggest(name, _concrete(base))}"


def _no_class(text: str) -> str | None:
    """Name the classes where settings were given without one."""
    found = _ABSTRACT.search(text)
    base: Any = pydoc.locate(found.group(1)) if found else None
    if found is None or not isinstance(base, type):
        return None
    key = _path(text, found.start())
    if key == "config":  # of a key that is not nested the parser gives the name alone
        key = text.partition(":")[0].strip()
    return f"{key}: its class comes before its settings, one of {', '.join(_concrete(base))}"


def _concrete(base: type) -> list[str]:
    return sorted(
        cls.__name__
        for cls in _subclasses(base)
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_")
    )


def _innermost(text: str) -> str | None:
    lines = [line.strip().removeprefix("- ").strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        message = _KEY.sub("", line).strip()
        if not message or _NOISE.search(message):
            continue
        position = text.find(line)
        path = _path(text, position + len(line)) if _KEY.search(text) else ""
        rest = " ".join(other for other in lines[number + 1 :] if "Union" not in text and other)
        message = re.sub(r"<class '([^']+)'>", r"\1", f"{message} {rest}".strip())
        return f"{path}: {message}" if path and not message.startswith(path) else message
    return None


def _path(text: str, end: int) -> str:
    return ".".join(m.group(1) for m in _KEY.finditer(text, 0, end)) or "config"


def _suggest(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    start = f"did you mean {close[0]!r}? There" if close else "there"
    return f"; {start} are: {', '.join(allowed)}" if allowed else ""


def _subclasses(cls: type) -> set[type]:
    found: set[type] = set(cls.__subclasses__())
    return found.union(*(_subclasses(child) for child in found))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
