"""What the parts of `benchmarks.gpu` share, on a CPU."""

from importlib.util import find_spec

import pytest

from benchmarks.gpu.__main__ import PARTS
from benchmarks.gpu.part import fit, metrics
from benchmarks.gpu.training import options


def test_each_part_is_a_module_of_its_name():
    for part in PARTS:
        assert find_spec(f"benchmarks.gpu.{part.name}"), part.name


@pytest.mark.slow
def test_a_run_with_a_logger_of_its_own_is_found_with_its_losses(tmp_path):
    for number in range(2):
        words = options("mnist_categorical", 2, tmp_path)
        run = fit("mnist_categorical", tmp_path, "cpu", *words, "--experiment", f"run{number}")
        assert run.parent.name == f"run{number}"
        assert len(metrics(run, "train/loss")) == 2
