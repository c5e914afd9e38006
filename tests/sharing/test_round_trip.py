"""The law of sharing: checkpoint, shared folder and ONNX are the same model."""

import onnxruntime
import pytest
import torch

from dvae.data import MNIST
from dvae.models import CategoricalVAE
from dvae.sharing import from_pretrained
from dvae.sharing.__main__ import main


@pytest.mark.slow
def test_all_of_them_give_the_same_codes_on_all_test_images(best, tmp_path, capsys):
    shared, onnx = tmp_path / "shared", tmp_path / "onnx"
    assert main(["save", str(best), "--out", str(shared)]) == 0
    assert main(["onnx", str(shared), "--out", str(onnx)]) == 0
    out = capsys.readouterr().out
    assert all(f"{onnx}/{name}.onnx  " in out for name in ("encoder", "decoder"))
    assert {path.name for path in onnx.iterdir()} == {"encoder.onnx", "decoder.onnx"}

    images = MNIST().rows("test").images.images / 255
    assert len(images) == 10_000
    model = CategoricalVAE.load_from_checkpoint(best, map_location="cpu")
    index = model.encode(images)
    assert len(index.unique(dim=0)) > 10
    assert torch.equal(from_pretrained(shared).encode(images), index)

    encoder = onnxruntime.InferenceSession(onnx / "encoder.onnx")
    found, logits = map(torch.from_numpy, encoder.run(None, {"image": images.numpy()}))
    assert found.dtype == torch.int64 and torch.equal(found, index)
    expected = model.eval().bottleneck(model.encoder(images)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    decoder = onnxruntime.InferenceSession(onnx / "decoder.onnx")
    pixels = torch.from_numpy(decoder.run(None, {"index": index.numpy()})[0])
    torch.testing.assert_close(pixels, model.decode(index), rtol=0, atol=1e-4)
    assert 0 <= pixels.min() <= pixels.max() <= 1
