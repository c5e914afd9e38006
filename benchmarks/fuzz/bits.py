"""Files of compressed images, honest ones and damaged ones, at random models."""

import random
import struct
from functools import cache

import torch

from benchmarks.fuzz.tally import Failure
from dvae.bottlenecks import CategoricalBottleneck
from dvae.coding import compress, decompress
from dvae.models import CategoricalVAE
from dvae.networks import MLP
from dvae.priors import AutoregressivePrior, CategoricalPrior, MADEPrior, UniformPrior

__all__ = ["any_file"]

_PRIORS = {
    "uniform": UniformPrior,
    "learned": CategoricalPrior,
    "MADE": lambda: MADEPrior(4),
    "autoregressive": lambda: AutoregressivePrior(8, 1, 2),
}
_FIELDS = (6, 8, 10, 12, 16, 20)  # of the header: shape, images, blocks, initial words


def any_file(draw: random.Random, what: list[str]) -> None:
    """Read a file: what was written comes back, and a file that anything was done to is refused.

    Args:
        draw: Randomness.
        what: Takes a description.

    Raises:
        ValueError: The file was refused.
        Failure: It should have been, or should not.
    """
    prior, lossless = draw.choice([*_PRIORS]), draw.random() < 0.5
    damage = draw.choice(["none", "none", "cut", "flip", "field", "tail", "noise"])
    what += [prior, "lossless" if lossless else "lossy", damage]
    model = _model(prior)
    image = torch.randint(2, (draw.choice([0, 1, 5, 300]), 1, 4, 4)).float()
    honest = compress(model, image, lossless)
    data, size = bytearray(honest), len(honest)
    place = draw.randrange(size)
    if damage == "cut":
        del data[place:]
    elif damage == "flip":
        data[place] ^= draw.randrange(1, 256)
    elif damage == "field":
        struct.pack_into("<H", data, draw.choice(_FIELDS), draw.choice([0, 1, 7, 255, 65535]))
    elif damage == "tail":
        data += draw.randbytes(draw.choice([1, 4, 400]))
    elif damage == "noise":
        data[place:] = draw.randbytes(size - place)
    found = decompress(model, bytes(data))
    if data != honest:
        raise Failure(f"a file that was changed at {place} of {size} was read")
    parts = image.split(256)  # as the file has them: products of another size round otherwise
    expected = image if lossless else torch.cat([model.decode(model.encode(x)) for x in parts])
    if not torch.equal(found, expected):
        raise Failure("what comes back is not what was written")


@cache
def _model(prior: str) -> CategoricalVAE:
    torch.manual_seed(0)
    model = CategoricalVAE(
        MLP((1, 4, 4), hidden=(8,)), CategoricalBottleneck(3, 4), prior=_PRIORS[prior]()
    )
    for weight in model.prior.parameters():
        weight.data.normal_(0, 0.5)
    return model
