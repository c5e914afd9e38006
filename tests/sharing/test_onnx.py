import sys

import pytest
import torch

from dvae.bottlenecks import VQ, DistanceCodebook
from dvae.extras import MissingExtra
from dvae.likelihoods import LogitLaplace
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from dvae.priors import AutoregressivePrior, MADEPrior, MaskedPrior, UniformPrior
from dvae.sharing import export_onnx, onnx
from dvae.sharing.__main__ import main
from tests.toy import toy_model


@pytest.mark.slow
def test_a_code_book_with_a_density_is_exported_for_any_batch(tmp_path):
    torch.manual_seed(0)
    network = ResNet((3, 8, 8), width=8, blocks=1)
    model = CodebookVAE(network, DistanceCodebook(16, 4), LogitLaplace()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    files = export_onnx(model, tmp_path / "out")
    assert [file.path.name for file in files] == ["encoder.onnx", "decoder.onnx"]
    assert all(file.difference <= 1e-4 and file.size == file.path.stat().st_size for file in files)
    # The model is as it was.
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    image = torch.rand(7, 3, 8, 8)
    index, _ = onnx._run(tmp_path / "out" / "encoder.onnx", {"image": image})
    assert torch.equal(index, model.encode(image)) and index.shape == (7, 2, 2)
    (pixels,) = onnx._run(tmp_path / "out" / "decoder.onnx", {"index": index})
    torch.testing.assert_close(pixels, model.decode(index), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_a_file_that_differs_is_refused_and_nothing_is_written(tmp_path, monkeypatch, name, error):
    model = toy_model()
    encoder, decoder = onnx._Encoder(model), onnx._Decoder(model)
    parts = {"image": encoder, "index": decoder}

    def wrong(path, inputs):
        ((takes, value),) = inputs.items()
        out = parts[takes](value)
        out = list(out) if isinstance(out, tuple) else [out]
        if path.name == name and len(value) == 5:
            out[-1] = out[-1] + error
        return [x.detach() for x in out]

    monkeypatch.setattr(onnx, "_export", lambda part, inputs, path, *_: path.touch())
    monkeypatch.setattr(onnx, "_run", wrong)
    with pytest.raises(ValueError, match=f"{name} differs from the model by .*nothing was written"):
        export_onnx(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    error = 0.0
    assert len(export_onnx(model, tmp_path / "out")) == 2


def test_what_cannot_be_exported_is_said_before_any_work(tmp_path, monkeypatch):
    model = CodebookVAE(ResNet((3, 8, 8), width=8, blocks=1), VQ(6, 4))
    with pytest.raises(ValueError, match="VQ has no logits to export"):
        export_onnx(model, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(ValueError, match="full is not empty: choose another folder"):
        export_onnx(toy_model(), tmp_path / "full")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r'needs onnxruntime: pip install "dvae\[onnx\]"'):
        export_onnx(toy_model(), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


SMALL = {"width": 8, "depth": 1, "heads": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "prior",
    [
        lambda: MADEPrior(4),
        lambda: AutoregressivePrior(**SMALL),
        lambda: AutoregressivePrior(**SMALL, num_classes=3),
        lambda: MaskedPrior(**SMALL, num_classes=3),
    ],
    ids=["MADE", "autoregressive", "with classes", "masked"],
)
def test_codes_drawn_step_by_step_from_the_exported_prior_have_its_probability(tmp_path, prior):
    torch.manual_seed(0)
    model = toy_model(prior=prior(), latents=4).eval()
    for parameter in model.prior.parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    files = export_onnx(model, tmp_path / "out")
    assert [f.path.name for f in files] == ["encoder.onnx", "decoder.onnx", "prior.onnx"]
    kind, classes = type(model.prior), model.prior.num_classes
    index = torch.randint(3, (7, 4))
    inputs, label = {"index": index}, torch.arange(7) % (classes + 1)
    if classes:
        inputs["label"] = label
    total = torch.zeros(7)
    for t in range(4):
        if kind is MaskedPrior:
            inputs = {"index": index, "seen": (torch.arange(4) < t).expand(7, 4), "label": label}
        (logits,) = onnx._run(tmp_path / "out" / "prior.onnx", inputs)
        total += logits.log_softmax(-1)[:, t].gather(-1, index[:, t : t + 1])[:, 0]
    given = [label] * bool(classes)
    if kind is MaskedPrior:
        expected = sum(
            model.prior.logits(index, torch.arange(4) < t, label)
            .log_softmax(-1)[:, t]
            .gather(-1, index[:, t : t + 1])[:, 0]
            for t in range(4)
        )
    else:
        expected = model.prior.log_prob(index, *given)
    torch.testing.assert_close(total, expected.detach(), rtol=0, atol=1e-4)


def test_a_prior_without_a_step_is_said_in_one_line(tmp_path, monkeypatch, capsys, best):
    monkeypatch.setattr(onnx, "_export", lambda part, inputs, path, *_: path.touch())
    monkeypatch.setattr(onnx, "_difference", lambda *_: 0.0)
    assert not onnx.has_step(toy_model(prior=UniformPrior()))
    assert main(["onnx", str(best), "--out", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "prior.onnx" in line]
    assert lines == [
        "no prior.onnx: UniformPrior has no logits of an integer given others of its code"
    ]
