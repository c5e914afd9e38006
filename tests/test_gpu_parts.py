"""What the parts of `benchmarks.gpu` share, on a CPU."""

import csv
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmarks.gpu import __main__ as whole
from benchmarks.gpu.__main__ import PARTS
from benchmarks.gpu.part import arguments, fit, metrics
from benchmarks.gpu.training import options
from benchmarks.measure import RESULTS


def test_each_part_is_a_module_of_its_name():
    for part in PARTS:
        assert find_spec(f"benchmarks.gpu.{part.name}"), part.name


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Return the rows that a command leaves, whose parts end as they are told to."""
    monkeypatch.chdir(tmp_path)

    def start(*words, ends="passed"):
        def end(part, *_):
            return {"part": part.name, "ended": ends, "seconds": 1.0, "said": ""}

        monkeypatch.setattr(whole, "run", end)
        monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", *words])
        if ends == "passed":
            whole.main()
        else:
            with pytest.raises(SystemExit, match="did not pass: "):
                whole.main()
        (found,) = tmp_path.rglob("gpu.csv")
        with found.open(newline="") as file:
            return {row["part"]: row["ended"] for row in csv.DictReader(file)}

    return start


def test_figures_of_a_cpu_are_not_written_over_those_of_a_gpu(ran, monkeypatch):
    before = {path: path.read_bytes() for path in RESULTS.glob("gpu*.csv")}
    assert before and ran("--only", "versions", "nan") == dict.fromkeys(
        ("versions", "nan"), "passed"
    )
    assert before == {path: path.read_bytes() for path in RESULTS.glob("gpu*.csv")}
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(sys, "argv", ["part", "--device", device])
        assert (arguments("A part.").out == RESULTS) == (device == "cuda")


def test_how_other_parts_ended_is_kept_and_what_did_not_run_is_said(ran, tmp_path):
    out = tmp_path / "runs" / "gpu"
    out.mkdir(parents=True)
    shutil.copy(RESULTS / "gpu.csv", out)
    kept = ran("--only", "versions", "nan")
    assert len(kept) > 2 and kept["nan"] == "passed"
    found = ran("--only", "nan", "steps", ends="no time left")
    assert found == {**kept, "nan": "no time left", "steps": "no time left"}
    # After an interrupt no other part begins.
    assert ran(ends="interrupted") == {**found, "versions": "interrupted"}


def test_an_interrupt_ends_the_part_too(tmp_path, monkeypatch):
    class Interrupted(subprocess.Popen):
        waited = False

        def wait(self, timeout=None):
            if not self.waited:
                self.waited = True
                raise KeyboardInterrupt
            return super().wait(timeout)

    def sleep(command, **given):
        nonlocal child
        child = Interrupted(["sleep", "60"], **given)
        return child

    child = None
    monkeypatch.setattr(whole.subprocess, "Popen", sleep)
    row = whole.run(PARTS[0], "cpu", tmp_path, 60.0)
    assert row["ended"] == "interrupted" and child.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_with_a_logger_of_its_own_is_found_with_its_losses(tmp_path):
    for number in range(2):
        words = options("mnist_categorical", 2, tmp_path)
        run = fit("mnist_categorical", tmp_path, "cpu", *words, "--experiment", f"run{number}")
        assert run.parent.name == f"run{number}"
        assert len(metrics(run, "train/loss")) == 2
