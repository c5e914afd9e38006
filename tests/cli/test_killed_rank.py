"""A process of several that is killed ends the run with an error, and not with a wait for it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT = 120  # seconds, on a busy machine


def test_a_killed_rank_ends_the_run(tmp_path):
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(
            [
                *(sys.executable, "train.py", "fit", "--config", "configs/mnist_categorical.yaml"),
                *("--trainer.devices", "2", "--trainer.strategy", "ddp"),
                *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
                *("--trainer.default_root_dir", str(tmp_path), "--data.batch_size", "20"),
            ],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            began = time.monotonic()
            # Written once training is under way.
            while not any(tmp_path.rglob("metrics.csv")):
                assert run.poll() is None and time.monotonic() - began < TIMEOUT
                time.sleep(0.2)
            children = psutil.Process(run.pid).children()
            (other,) = [c for c in children if any("train.py" in word for word in c.cmdline())]
            other.send_signal(signal.SIGKILL)
            # By an exception in the collective or by Lightning's watch over its children, whichever
            # is first; the second cuts the report of the first short.
            assert run.wait(TIMEOUT) != 0
        finally:
            run.kill()
