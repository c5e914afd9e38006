"""The names of a run's files stand in one place, and are those that runs have always had."""

import ast
import csv
from pathlib import Path

import pytest

import dvae
from dvae.runs.config import read_config
from dvae.runs.curves import read_curves
from dvae.runs.layout import RunFolder

ROOT = Path(dvae.__file__).parent
NAMES = {"best.ckpt", "last.ckpt", "config.yaml", "metrics.csv", "checkpoints", "media", ".part"}
# A module, and a key of the command line, have the name of the folder.
ALLOWED = dict.fromkeys(
    ("runs/__init__.py", "cli/arguments.py", "cli/training.py", "explore/__main__.py"),
    frozenset({"checkpoints"}),
)


def strings(path):
    """Find the strings of a module that are not documentation."""
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


def test_each_name_stands_once():
    places = {name: [] for name in NAMES}
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).as_posix()
        for text in strings(path):
            if text in NAMES - ALLOWED.get(here, set()):
                places[text].append(here)
    found = {name: [place.split("/")[0] for place in there] for name, there in places.items()}
    assert found == {name: ["runs"] for name in NAMES}


def test_the_places_are_those_of_every_run():
    run = RunFolder(Path("runs/x/version_0"))
    assert [p.as_posix() for p in (run.config, run.metrics, run.curves, *run.ours)] == [
        "runs/x/version_0/config.yaml",
        "runs/x/version_0/metrics.csv",
        "runs/x/version_0/media/curves.png",
        "runs/x/version_0/checkpoints/last.ckpt",
        "runs/x/version_0/checkpoints/best.ckpt",
    ]
    assert all(RunFolder.of_checkpoint(path).path == run.path for path in run.ours)
    assert RunFolder.of_checkpoint(Path("a/b.ckpt")).path == Path("a")


def test_the_newest_run_comes_first(tmp_path):
    for name in ("version_9", "version_10", "version_1", "version_x", "other"):
        (tmp_path / name).mkdir()
    found = [run.path.name for run in RunFolder.versions(tmp_path)]
    assert found == ["version_10", "version_9", "version_1"]
    assert RunFolder.versions(tmp_path / "gone") == []


def test_what_a_logger_has_written_is_read(tmp_path):
    rows = [{"step": 0, "epoch": 0, "a": 1.5}, {"step": 3, "epoch": 1, "a": "nan", "b": -2}]
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["b", "step", "epoch", "a"])
        writer.writeheader()
        writer.writerows(rows)
    curves = read_curves(tmp_path / "metrics.csv")
    assert curves.keys() == {"a", "b"} and curves["b"] == [(3, -2.0)]
    assert curves["a"][0] == (0, 1.5) and curves["a"][1][1] != curves["a"][1][1]


@pytest.mark.parametrize("read", [read_config, read_curves])
def test_what_cannot_be_read_is_one_line(tmp_path, read):
    path = tmp_path / "file"
    with pytest.raises(ValueError, match=r"^.* has no file, which a run leaves there$"):
        read(path)
    for content in (b"", b"\xff", b"a: b: c", b'"a', b"step,step\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^.*file.*$") as error:
            read(path)
        assert "\n" not in str(error.value)
