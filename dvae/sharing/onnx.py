"""Encoder and decoder as ONNX files, checked against the model with ONNX Runtime."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvae.extras import require
from dvae.models import DiscreteVAE
from dvae.runs.files import check_new, whole_folder

__all__ = ["Exported", "export_onnx"]

TOLERANCE = 1e-4
# Sizes of the batches compared: none is that of the example which is traced.
_BATCHES = (1, 5)


@dataclass(frozen=True)
class Exported:
    """A file that was exported.

    Attributes:
        path: Where it is.
        size: Bytes.
        difference: Largest deviation from the model, of logits or pixels; of values above 1, as a
            fraction of the largest.
    """

    path: Path
    size: int
    difference: float


def export_onnx(model: DiscreteVAE, folder: str | Path) -> list[Exported]:
    """Write ``encoder.onnx`` and ``decoder.onnx``, for batches of any size.

    The encoder turns ``image (B, C, H, W)``, pixels in [0, 1], into ``index (B, ...)``, int64, and
    ``logits (B, ..., K)``; the decoder turns ``index`` into ``image``. ONNX has no errors for
    people: an index outside [0, K) is not refused by every operator.

    Args:
        model: A model with a posterior: `CategoricalVAE`, or `CodebookVAE` with a code book.
        folder: Where to; it must be empty or not be there, and is complete once it is.

    Returns:
        The files with the differences measured on random images and codes.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        ValueError: The folder is not empty, the model has no logits, or ONNX Runtime gives other
            codes or values that differ by more than 1e-4; then nothing is written.
    """
    folder = Path(folder)
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx")
    check_new(folder)
    if not model.bottleneck.has_posterior:
        raise ValueError(
            f"{type(model.bottleneck).__name__} has no logits to export: its posterior is one code "
            "for certain"
        )
    encoder, decoder = _Encoder(model), _Decoder(model)
    noise = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        return torch.rand(count, *model.image_shape, generator=noise)

    def codes(count: int) -> Tensor:
        return torch.randint(model.num_codes, (count, *model.index_shape), generator=noise)

    with whole_folder(folder) as beside:
        _export(encoder, images(2), beside / "encoder.onnx", "image", ["index", "logits"])
        _export(decoder, codes(2), beside / "decoder.onnx", "index", ["image"])
        differences = {
            "encoder.onnx": _encoder_difference(beside, encoder, [images(n) for n in _BATCHES]),
            "decoder.onnx": _decoder_difference(beside, decoder, [codes(n) for n in _BATCHES]),
        }
        for name, difference in differences.items():
            # Not the other way round: a difference that is no number is none to accept.
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{name} differs from the model by {difference:.1e}, above {TOLERANCE:g}: "
                    "nothing was written"
                )
    return [
        Exported(folder / name, (folder / name).stat().st_size, difference)
        for name, difference in differences.items()
    ]


class _Encoder(nn.Module):
    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__()
        # Copies, so that the model's own mode and device stay as they are.
        self.encoder = copy.deepcopy(model.encoder)
        self.bottleneck: Any = copy.deepcopy(model.bottleneck)
        self.cpu().eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.bottleneck(self.encoder(image)).logits
        return logits.argmax(-1), logits


class _Decoder(nn.Module):
    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__()
        self.bottleneck: Any = copy.deepcopy(model.bottleneck)
        self.decoder = copy.deepcopy(model.decoder)
        self.likelihood: Any = copy.deepcopy(model.likelihood)
        self.cpu().eval()

    def forward(self, index: Tensor) -> Tensor:
        image: Tensor = self.likelihood.mean(self.decoder(self.bottleneck.embed(index)))
        return image


def _export(part: nn.Module, example: Tensor, path: Path, takes: str, gives: list[str]) -> None:
    torch.onnx.export(
        part,
        (example,),
        path,
        dynamo=True,
        input_names=[takes],
        output_names=gives,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )


def _run(path: Path, takes: str, value: Tensor) -> list[Tensor]:
    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(x) for x in session.run(None, {takes: value.numpy()})]


@torch.no_grad()
def _encoder_difference(folder: Path, part: _Encoder, batches: list[Tensor]) -> float:
    found = []
    for image in batches:
        index, logits = _run(folder / "encoder.onnx", "image", image)
        expected = part(image)[1]
        # Another code is allowed between two that are as good as equal.
        lost = expected.amax(-1) - expected.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        found += [_difference(logits, expected), float(lost.max()) / _scale(expected)]
    return _largest(found)


@torch.no_grad()
def _decoder_difference(folder: Path, part: _Decoder, batches: list[Tensor]) -> float:
    pairs = [(_run(folder / "decoder.onnx", "index", index)[0], part(index)) for index in batches]
    return _largest([_difference(image, expected) for image, expected in pairs])


def _largest(differences: list[float]) -> float:
    # Torch's maximum, which is NaN where any is; Python's may pass it over.
    return float(torch.tensor(differences).max())


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max()) / _scale(expected)


def _scale(expected: Tensor) -> float:
    return max(1.0, float(expected.abs().max()))
