"""Private names of other libraries are those that CONTRIBUTING.md lists, each in one file."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import dvae

ROOT = Path(dvae.__file__).parents[1]
FILES = [*ROOT.glob("dvae/**/*.py"), ROOT / "train.py"]
PRIVATE = re.compile(r"_[a-z]\w*")
# What Python and torch put into every class of a kind; an attribute of a module's, and a word.
NONE = {"_abc_impl", "_backward_cls", "_scalar_ranges", "_rank_"}
FREE = {"dvae", "builtins", "abc", "enum", "typing", "collections"}
TABLE = re.findall(
    r"^\| `(_\w+)` \| [^|]+ \| `([^`]+)` \| [^|]+ \| `([^`:]+)::(\w+)` \|$",
    (ROOT / "CONTRIBUTING.md").read_text(),
    re.MULTILINE,
)


def trees():
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}


def ours(nodes):
    """Return the private names that this repository gives to something of its own."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def used(node):
    """Return what a node says that may be the private name of something."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [*node.module.split("."), *(alias.name for alias in node.names)]
    if isinstance(node, ast.Import):
        return [part for alias in node.names for part in alias.name.split(".")]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def overridden():
    """Return the private methods of other libraries that classes of this one replace."""
    for path in ROOT.glob("dvae/**/*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if path.stem in ("__main__", "hub") or "triton" in name:
            continue  # those need an extra, or a GPU
        for cls in vars(importlib.import_module(name)).values():
            if inspect.isclass(cls) and cls.__module__ == name:
                bases = [b for b in cls.__mro__[1:] if b.__module__.split(".")[0] not in FREE]
                for attribute in filter(PRIVATE.fullmatch, vars(cls)):
                    if any(attribute in vars(base) for base in bases):
                        yield attribute, str(path.relative_to(ROOT))


def test_the_list_is_all_there_is():
    parsed = trees()
    own = set(ours(node for tree in parsed.values() for node in ast.walk(tree)))
    found = {
        (name, file)
        for file, tree in parsed.items()
        for node in ast.walk(tree)
        for name in used(node)
        if PRIVATE.fullmatch(name) and name not in own | NONE
    }
    found |= {(name, file) for name, file in overridden() if name not in NONE}
    mixin = {row[:2] for row in TABLE if row[1] == "dvae/sharing/hub.py"}
    assert found | mixin == {row[:2] for row in TABLE}
    assert len({row[0] for row in TABLE}) == len(TABLE) > 3


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_has_a_test_that_fails_when_it_changes(row):
    name, file, test_file, test = row
    assert re.search(rf"\b{name}\b", (ROOT / file).read_text())
    assert f"def {test}(" in (ROOT / test_file).read_text()
