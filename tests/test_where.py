"""CONTRIBUTING.md says where things are: each file is there and defines what is named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = re.findall(
    r"^\| \.\.\. ([^|]+) \| `([^`]+)` \| `(\w+)` \|$",
    (ROOT / "CONTRIBUTING.md").read_text(),
    re.MULTILINE,
)


def test_there_are_twenty():
    assert len({question for question, _, _ in LIST}) == len(LIST) >= 20


@pytest.mark.parametrize(("question", "file", "name"), LIST, ids=[row[0] for row in LIST])
def test_it_is_there(question, file, name):
    defined = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert name in defined
