"""A process that leaves a data set half read ends."""

import subprocess
import sys

import pytest
from PIL import Image

SCRIPT = """
import sys
import dvae.data.image_folder as reader
from dvae.data import ImageFolder

reader._free_memory = lambda: 100
data = ImageFolder(sys.argv[1], batch_size=2, image_size=8, val_size=4)
data.setup("fit")
held = iter(data.train_dataloader())
next(held)
print(type(data.train_dataloader()).__name__)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_what_reads(tmp_path):
    for number in range(40):
        Image.new("RGB", (8, 8), (number, 90, 3)).save(tmp_path / f"{number:02}.png")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "FileLoader"
    assert done.returncode == 0, done.stderr
    assert not done.stderr
