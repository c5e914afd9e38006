"""Laws of compressed images: what comes back, how long the files are, who can read them."""

import math
import subprocess
import sys

import pytest
import torch
from scipy import stats

from dvae.coding import BitFile, compress, decompress, decompressed
from dvae.data.batch import as_pixels
from dvae.likelihoods import Gaussian
from dvae.models import CodebookVAE
from dvae.networks import ResNet
from dvae.priors.base import Prior
from tests.coding.models import BOTTLENECKS, MAKERS, grid, images, latents
from tests.laws import FAILURE_RATE

MODELS = {f"latents, {prior}": (latents, (prior,)) for prior in MAKERS}
MODELS |= {f"grid, {prior}": (grid, ("ProjectedCodebook", prior)) for prior in MAKERS}
MODELS |= {f"product, {prior}": (grid, ("ProductCodebook", prior)) for prior in MAKERS}
MODELS |= {f"{bottleneck}, MADE": (grid, (bottleneck, "MADEPrior")) for bottleneck in BOTTLENECKS}
every = pytest.mark.parametrize("name", MODELS)


def made(name):
    maker, how = MODELS[name]
    return maker(*how)


def bits(data):
    """Return the bits of the stack itself, what it began with taken off."""
    file = BitFile.read(data)
    return 32 * (len(file.words) - file.initial)


@every
def test_codes_come_back_and_decode_to_the_reconstruction_bit_for_bit(name):
    model = made(name)
    image = images(model, 21)
    found = decompress(model, compress(model, image))
    assert torch.equal(found, model.decode(model.encode(image)))


@every
def test_without_loss_every_pixel_comes_back(name):
    model = made(name)
    image = images(model, 21)
    assert torch.equal(decompress(model, compress(model, image, lossless=True)), as_pixels(image))


@every
def test_codes_take_as_many_bits_as_the_prior_says(name):
    model = made(name)
    image = images(model, 300)
    with torch.no_grad():
        expected = -model.prior.eval().log_prob(model.encode(image)).sum().item() / math.log(2)
    # A stack ends at a whole word, and began within one.
    assert abs(bits(compress(model, image)) - expected) <= 33 + 1e-4 * expected
    assert expected > 200


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (latents("MADEPrior"), 4000),
        (grid("ProjectedCodebook", channels=1), 400),
        (grid("ResidualCodebook", channels=1), 400),
    ],
)
def test_without_loss_files_are_as_long_as_the_negative_elbo(model, count):
    image = as_pixels(images(model, count))
    with torch.no_grad():
        q = model.eval().bottleneck(model.encoder(image))
        index = q.sample(40, torch.Generator().manual_seed(0))
        log_px = torch.stack(
            [model.log_px(model.bottleneck.embed(z[None]), image)[0] for z in index]
        )
        weight = (log_px + model.prior.log_prob(index) - q.log_prob(index)).double() / math.log(2)
    expected = -weight.mean(0).sum().item()
    error = (weight.var(0).sum() * (1 + 1 / len(index))).sqrt().item()
    data = compress(model, image, lossless=True)
    assert abs(bits(data) - expected) <= stats.norm.isf(FAILURE_RATE / 2) * error + 64
    assert error < 0.002 * expected  # so that the bound says something
    file = BitFile.read(data)
    assert file.bits_per_dim() == 8 * len(data) / image.numel()
    # What is there besides the bound is less than one in a hundred of it.
    assert 8 * len(data) < 1.01 * expected + 8 * 60


MANY = {"a": (latents, "AutoregressivePrior", 270), "b": (grid, "DistanceCodebook", 60)}
THERE = """
import sys, torch
from pathlib import Path
from dvae.coding import compress, decompress
from tests.coding.models import images
from tests.coding.test_files import MANY
torch.set_num_threads(3)
folder = Path(sys.argv[1])
for name, (make, part, count) in MANY.items():
    model = make(part)
    for lossless in (False, True):
        data = (folder / f"{name}{lossless}").read_bytes()
        torch.save(decompress(model, data), folder / f"{name}{lossless}.pt")
        assert compress(model, images(model, count), lossless) == data
assert torch.get_num_threads() == 3
"""


@pytest.mark.slow  # of one process more
def test_another_process_with_other_threads_reads_and_writes_the_same_bytes(tmp_path):
    found = {}
    for name, (make, part, count) in MANY.items():
        model = make(part)
        image = images(model, count)
        for lossless in (False, True):
            (tmp_path / f"{name}{lossless}").write_bytes(compress(model, image, lossless))
        codes = [model.decode(model.encode(part)) for part in image.split(256)]
        found[name] = torch.cat(codes), as_pixels(image)
    subprocess.run([sys.executable, "-c", THERE, str(tmp_path)], check=True)
    for name, (decoded, image) in found.items():
        assert torch.equal(torch.load(tmp_path / f"{name}False.pt"), decoded)
        assert torch.equal(torch.load(tmp_path / f"{name}True.pt"), image)


@pytest.mark.parametrize("lossless", [False, True])
def test_images_are_read_block_by_block_and_may_be_none(lossless):
    model = latents()
    assert decompress(model, compress(model, images(model, 0), lossless)).shape == (0, 1, 6, 6)
    image = images(model, 600)
    data, threads = compress(model, image, lossless), set()
    for part in (model.encoder, model.decoder):
        part.register_forward_hook(lambda *_: threads.add(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        assert compress(model, image, lossless) == data
        parts = list(decompressed(model, data))
        assert torch.get_num_threads() == 2  # as it was
    finally:
        torch.set_num_threads(1)
    assert threads == {1}
    assert max(map(len, parts)) <= 256 and sum(map(len, parts)) == 600


def test_bits_to_begin_with_are_no_more_than_one_image_needs():
    model = latents()
    counts = [BitFile.read(compress(model, images(model, n), True)).initial for n in (1, 100)]
    q = model.bottleneck(model.encoder(images(model, 100)))
    assert counts[0] <= 2 + math.ceil(24 * q.mode()[0].numel() / 32)
    assert counts[1] <= counts[0] + 4


def test_pixels_that_have_no_probability_are_refused():
    density = CodebookVAE(ResNet((1, 8, 8), width=8, blocks=1), likelihood=Gaussian())
    with pytest.raises(ValueError, match="a mass over the values of a pixel.*got Gaussian"):
        compress(density, torch.rand(2, 1, 8, 8), lossless=True)
    model = latents()
    with pytest.raises(ValueError, match="multiples of 1/1; got 0.25: binarize"):
        compress(model, torch.full((2, 1, 6, 6), 0.25), lossless=True)
    with pytest.raises(ValueError, match="images must be"):
        compress(model, torch.rand(2, 1, 5, 6))


def test_a_prior_of_another_kind_is_refused_in_a_line():
    model = latents()
    model.prior.__class__ = type("Strange", (Prior,), {"log_prob": None, "sample": None})
    with pytest.raises(ValueError, match="Strange gives no integer its probability"):
        compress(model, images(model, 2))


def test_without_constriction_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r'needs constriction: pip install "dvae\[coding\]"'):
        compress(latents(), images(latents(), 2))
