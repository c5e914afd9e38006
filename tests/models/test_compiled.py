"""Compiled training: the same numbers, one graph for each network, and none anew as tau moves."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import torch._dynamo
from torch._dynamo.utils import counters

from dvae.bottlenecks import CategoricalBottleneck, ProjectedCodebook
from dvae.callbacks import Anneal
from dvae.data import MNIST
from dvae.estimators import GumbelSoftmax
from dvae.models import CategoricalVAE, CodebookVAE
from dvae.models.base import DiscreteVAE
from dvae.models.compiled import check_compile, compile_calls
from dvae.networks import MLP, ResNet
from dvae.schedules import Linear

STEPS = 4


def categorical(compile: bool) -> DiscreteVAE:
    bottleneck = CategoricalBottleneck(2, 3, GumbelSoftmax(1.0))
    return CategoricalVAE(MLP(hidden=(16,)), bottleneck, compile=compile)


def codebook(compile: bool) -> DiscreteVAE:
    bottleneck = ProjectedCodebook(8, 4, estimator=GumbelSoftmax(1.0))
    network = ResNet((1, 28, 28), width=8, blocks=1)
    return CodebookVAE(network, bottleneck, compile=compile)


def trained(model: DiscreteVAE) -> dict[str, torch.Tensor]:
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        callbacks=[Anneal("tau", Linear(1.0, 0.5))],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    pl.seed_everything(0, verbose=False)
    trainer.fit(model, datamodule=MNIST(batch_size=8))
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("make", [categorical, codebook])
def test_compiled_training_is_the_same_and_compiles_once(make, monkeypatch):
    if make is codebook:
        # The same graphs in less time: what their C++ is worth is shown by the small model.
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    pl.seed_everything(0, verbose=False)
    plain = make(compile=False)
    compiled = make(compile=True)
    compiled.load_state_dict(plain.state_dict())
    torch._dynamo.reset()
    counters.clear()

    found = trained(compiled)

    assert not counters["graph_break"]
    # Encoder, and decoder with likelihood; as many after a step as after four, tau moving.
    assert counters["stats"]["unique_graphs"] == 2
    expected = trained(plain)
    # The very names too: a checkpoint of one is a checkpoint of the other.
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(ValueError, match=r"model\.compile needs a C\+\+ compiler.*nowhere\+\+"):
        trained(categorical(compile=True))


def test_cuda_graphs_are_of_a_gpu_and_begin_a_step_with_the_encoder(monkeypatch):
    with pytest.raises(ValueError, match="cuda-graphs needs a GPU, and training is on cpu"):
        trained(categorical(compile="cuda-graphs"))
    gpu = torch.device("cuda")
    with pytest.raises(ValueError, match="accumulate_grad_batches above 1 exclude each other"):
        check_compile("cuda-graphs", gpu, accumulates=True)
    check_compile("cuda-graphs", gpu, accumulates=False)
    said = []
    monkeypatch.setattr(torch, "compile", lambda f, **how: said.append(how) or (lambda *x: (f, x)))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: said.append("step"))
    encoder = torch.nn.Identity()
    calls = compile_calls(encoder, torch.add, "cuda-graphs")
    assert calls.encode(1) == (encoder, (1,)) and calls.log_px(1, 2) == (torch.add, (1, 2))
    assert said == [{"fullgraph": True, "mode": "reduce-overhead"}] * 2 + ["step"]
