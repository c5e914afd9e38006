"""Every test starts from the same random state, and the lab neither adapts nor times for long."""

import pytest
import torch

import dvae.lab.run
import dvae.lab.timing


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvae.lab.run, "_ADAPT_STEPS", 3)
    monkeypatch.setattr(dvae.lab.run, "_TIMING_BATCH", 6)
    monkeypatch.setattr(dvae.lab.timing, "_LEAST_PAIRS", 2)
    monkeypatch.setattr(dvae.lab.timing, "_SECONDS", 0.0)
