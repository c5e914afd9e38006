import torch


def pytest_configure():
    # The tests run in two processes, and small tensors gain nothing from threads.
    torch.set_num_threads(1)
