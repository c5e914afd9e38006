import os

import torch


def pytest_configure():
    # The tests run in two processes, and small tensors gain nothing from threads; nor do the
    # processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
