"""Imports point one way, and only the upper layers know Lightning."""

import ast
from pathlib import Path

import pytest

import dvae

ROOT = Path(dvae.__file__).parent
# A layer may import itself and every layer before it.
LAYERS = (
    {
        "commands",
        "described",
        "devices",
        "doing",
        "extras",
        "features",
        "functional",
        "names",
        "plotting",
        "scalars",
        "stepwise",
    },
    {"kernels", "schedules", "likelihoods", "metrics", "estimators", "penalties"},
    {"bottlenecks", "networks", "priors"},
    {"models", "data", "runs"},
    {"callbacks", "coding", "lab", "compare", "sharing", "loggers"},
    {"explore"},
    {"cli", "__main__"},
)
LIGHTNING = {"models", "runs", "callbacks", "data", "cli", "lab", "sharing", "loggers"}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def level_of(part):
    return next(level for level, parts in enumerate(LAYERS) if part in parts)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_there_are_files():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    part = part_of(path)
    for name in imports_of(path):
        package, *rest = name.split(".")
        if package == "dvae":
            assert rest, f"{path} imports the package itself"
            assert level_of(rest[0]) <= level_of(part), f"{path} imports {name}"
        if package in ("pytorch_lightning", "lightning", "lightning_fabric"):
            assert part in LIGHTNING, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_opens_with_a_sentence_its_names_and_stays_short(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    # Not only at the top: a package that finds its files hides its list from type checkers.
    assigned = {
        ast.unparse(t) for n in ast.walk(tree) if isinstance(n, ast.Assign) for t in n.targets
    }
    assert "__all__" in assigned or path.name == "__main__.py"
    assert len(path.read_text().splitlines()) <= 320


def taken(node):
    """Count what a class is made of; the attributes of a record of results are none of it."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            given = item.args
            return len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return len(fields) if "Args:" in (ast.get_docstring(node) or "") else 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_constructor_takes_seven_arguments_at_most(path):
    for node in ast.walk(ast.parse(path.read_text())):
        # The arguments of a model are its parts.
        if isinstance(node, ast.ClassDef) and not node.name.endswith("VAE"):
            assert taken(node) <= 7, f"{path}: {node.name}"


def test_the_folder_of_a_run_needs_no_other_part():
    names = [name for path in FILES if part_of(path) == "runs" for name in imports_of(path)]
    ours = {".".join(name.split(".")[:2]) for name in names if name.startswith("dvae")}
    assert ours == {"dvae.runs"}
