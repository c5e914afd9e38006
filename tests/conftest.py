import os

import pytest
import torch
from PIL import Image


def pytest_configure():
    # The tests run in two processes, and small tensors gain nothing from threads; nor do the
    # processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _empty_curves(request, monkeypatch):
    """Leave the picture of the curves empty where a test is of something else: a second each."""

    def touch(figure, path):
        Image.new("L", (1, 1)).save(path)

    if request.node.get_closest_marker("curves") is None:
        monkeypatch.setattr("dvae.callbacks.curves.draw_curves", lambda *_: None)
        monkeypatch.setattr("dvae.callbacks.curves.save_figure", touch)
