"""Several processes that are asked to stop do so after the same step, and save it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dvae.runs.checkpoints import read_checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT = 120  # seconds, on a busy machine


def first(run):
    os.kill(run.pid, signal.SIGTERM)


def second(run):
    children = psutil.Process(run.pid).children()
    (other,) = [c for c in children if any("train.py" in word for word in c.cmdline())]
    other.send_signal(signal.SIGTERM)


def all_of_them(run):
    os.killpg(run.pid, signal.SIGINT)


@pytest.mark.parametrize(("ask", "code"), [(first, 143), (second, 143), (all_of_them, 130)])
def test_they_stop_after_the_same_step(tmp_path, ask, code):
    output = tmp_path / "output"
    with output.open("w") as file:
        run = subprocess.Popen(
            [
                *(sys.executable, "train.py", "fit", "--config", "configs/mnist_categorical.yaml"),
                *("--trainer.devices", "2", "--trainer.strategy", "ddp"),
                *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
                *("--trainer.default_root_dir", str(tmp_path), "--data.batch_size", "20"),
            ],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        began = time.monotonic()
        # Written once training is under way.
        while not any(tmp_path.rglob("metrics.csv")):
            assert run.poll() is None and time.monotonic() - began < TIMEOUT
            time.sleep(0.2)
        ask(run)
        assert run.wait(TIMEOUT) == code, output.read_text()
    finally:
        run.kill()
    (step,) = re.findall(r"stopped by SIG\w+ at step (\d+); resume with", output.read_text())
    (last,) = tmp_path.rglob("last.ckpt")
    assert f"--ckpt_path {last}" in output.read_text()
    saved = read_checkpoint(last)
    assert saved["global_step"] == int(step)
    assert len(saved["callbacks"]["RandomState"]["others"]) == 1
