"""Nothing is looked for or measured in a step that nobody asked for."""

import ctypes

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import SimpleProfiler

from dvae.data import MNIST
from dvae.models import CategoricalVAE
from dvae.models.overhead import prepare_cpu


def fit(**settings):
    trainer = pl.Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **settings,
    )
    trainer.fit(CategoricalVAE(), datamodule=MNIST(batch_size=8))
    return trainer


@pytest.fixture
def prepared(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    prepare_cpu()
    yield
    torch.set_flush_denormal(False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to be found")
def test_no_step_searches_for_a_driver(prepared, monkeypatch):
    def search(name, *args, **kwargs):
        raise AssertionError(f"looked for {name}")

    monkeypatch.setattr(ctypes, "CDLL", search)
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()


def test_a_profile_that_was_asked_for_is_taken(tmp_path):
    trainer = fit(profiler=SimpleProfiler(dirpath=tmp_path, filename="profile"))
    (report,) = tmp_path.glob("*profile*")
    assert "run_training_batch" in report.read_text()
    assert isinstance(trainer.profiler, SimpleProfiler)


def test_no_context_is_opened_where_none_was_asked_for():
    profiler = fit().profiler
    assert profiler.profile("a step") is profiler.profile("another one")


def test_a_cpu_flushes_what_it_would_be_slow_with(prepared):
    assert torch.tensor(1e-40).mul(1.0).item() == 0.0
