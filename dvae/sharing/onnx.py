"""Encoder, decoder and prior as ONNX files, checked against the model with ONNX Runtime."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvae.doing import doing
from dvae.extras import require
from dvae.models import DiscreteVAE
from dvae.priors import MaskedPrior
from dvae.priors.sequential import SequentialPrior
from dvae.runs.files import check_new, whole_folder

__all__ = ["Exported", "export_onnx", "has_step"]

TOLERANCE = 1e-4
Inputs = dict[str, Tensor]
"""Values by the name of an input."""

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


def has_step(model: DiscreteVAE) -> bool:
    """Tell whether the prior says what integers of a code may be, given others of it.

    Args:
        model: Any model.
    """
    return isinstance(model.prior, (SequentialPrior, MaskedPrior))


def export_onnx(model: DiscreteVAE, folder: str | Path) -> list[Exported]:
    """Write ``encoder.onnx`` and ``decoder.onnx``, for batches of any size, and ``prior.onnx``.

    The encoder turns ``image (B, C, H, W)``, pixels in [0, 1], into ``index (B, ...)``, int64, and
    ``logits (B, ..., K)``; the decoder turns ``index`` into ``image``. The prior, where `has_step`,
    turns ``index`` into the ``logits`` of each integer given those before it in raster order, or,
    with ``MaskedPrior``, given those where ``seen (B, ...)`` is true; with classes it takes
    ``label (B,)`` besides, the number of classes for none. ONNX has no errors for people: an index
    outside [0, K) is not refused by every operator.

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
    prior, noise = model.prior, torch.Generator().manual_seed(0)

    def images(count: int) -> Inputs:
        return {"image": torch.rand(count, *model.image_shape, generator=noise)}

    def codes(count: int) -> Inputs:
        shape = (count, *model.index_shape)
        return {"index": torch.randint(model.num_codes, shape, generator=noise)}

    def steps(count: int) -> Inputs:
        inputs = codes(count)
        if isinstance(prior, MaskedPrior):
            inputs["seen"] = torch.rand(inputs["index"].shape, generator=noise) < 0.5
        if prior.num_classes:
            inputs["label"] = torch.randint(prior.num_classes + 1, (count,), generator=noise)
        return inputs

    parts = [
        ("encoder.onnx", _Encoder(model), images, ["index", "logits"]),
        ("decoder.onnx", _Decoder(model), codes, ["image"]),
        *[("prior.onnx", _Step(model), steps, ["logits"])] * has_step(model),
    ]
    differences = {}
    with whole_folder(folder) as beside:
        for name, part, inputs, gives in parts:
            with doing(f"exporting {name}"):
                _export(part, inputs(2), beside / name, gives)
                difference = _difference(beside / name, part, [inputs(n) for n in _BATCHES])
            # Not the other way round: a difference that is no number is none to accept.
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{name} differs from the model by {difference:.1e}, above {TOLERANCE:g}: "
                    "nothing was written"
                )
            differences[name] = difference
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


class _Step(nn.Module):
    def __init__(self, model: DiscreteVAE) -> None:
        super().__init__()
        self.prior: Any = copy.deepcopy(model.prior)
        self.cpu().eval()

    def forward(self, index: Tensor, *given: Tensor) -> Tensor:
        seen = [x.flatten(1) if x.dim() > 1 else x for x in given]
        logits: Tensor = self.prior.logits(index.flatten(1), *seen)
        return logits.view(*index.shape, -1)


def _export(part: nn.Module, inputs: Inputs, path: Path, gives: list[str]) -> None:
    # The size has one name: the axes of other inputs are found to be the same.
    dim = torch.export.Dim
    first, *others = ({0: dim("batch") if n == 0 else dim.DYNAMIC} for n in range(len(inputs)))
    torch.onnx.export(
        part,
        tuple(inputs.values()),
        path,
        dynamo=True,
        input_names=list(inputs),
        output_names=gives,
        dynamic_shapes=(first, tuple(others)) if others else (first,),
        external_data=False,
        verbose=False,
    )


def _run(path: Path, inputs: Inputs) -> list[Tensor]:
    runtime = require("onnxruntime", "onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return [torch.from_numpy(x) for x in session.run(None, arrays)]


@torch.no_grad()
def _difference(path: Path, part: nn.Module, batches: list[Inputs]) -> float:
    found = []
    for inputs in batches:
        *index, values = _run(path, inputs)
        expected = part(*inputs.values())
        expected = expected[-1] if isinstance(expected, tuple) else expected
        # Another code is allowed between two that are as good as equal.
        lost = [expected.amax(-1) - expected.gather(-1, i.unsqueeze(-1)).squeeze(-1) for i in index]
        scale = max(1.0, float(expected.abs().max()))
        found += [float(x.abs().max()) / scale for x in (values - expected, *lost)]
    # Torch's maximum, which is NaN where any is; Python's may pass it over.
    return float(torch.tensor(found).max())
