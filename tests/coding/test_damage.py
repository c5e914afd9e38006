"""Files that are damaged, another model's, or made to harm: one line, no image, little memory."""

import random
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvae.coding import BitFile, compress, decompress
from tests.coding.models import grid, images, latents

MODEL = latents("MADEPrior")
IMAGES = images(MODEL, 300)
FILES = [compress(MODEL, IMAGES, lossless) for lossless in (False, True)]
HEADER = 56
both = pytest.mark.parametrize("data", FILES, ids=["lossy", "lossless"])


def refusal(data, model=MODEL):
    with pytest.raises(ValueError) as caught:
        decompress(model, bytes(data))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 250
    return text


@both
def test_every_file_that_is_cut_short_is_refused(data):
    for length in (0, 3, 4, 30, HEADER, HEADER + 5, len(data) - 400, len(data) - 4, len(data) - 1):
        refusal(data[:length])
    refusal(data + b"\1\0\0\0")
    refusal(data + b"\0\0\0\0")


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(kind=st.sampled_from([0, 1]), bit=st.integers(0, 2**31))
def test_every_bit_counts(kind, bit):
    data, place = bytearray(FILES[kind]), bit % (8 * len(FILES[kind]))
    data[place // 8] ^= 1 << place % 8
    refusal(data)


def test_bytes_of_any_kind_are_refused():
    source = random.Random(0)
    for length in (0, 1, 59, 60, 61, 64, 68, 500):
        noise = source.randbytes(length)
        refusal(noise)
        refusal(b"dvae\1" + noise)
        refusal(FILES[length % 2][:HEADER] + noise)


@both
def test_the_block_that_does_not_decode_is_named(data):
    file = BitFile.read(data)
    words = file.words.copy()
    words[len(words) // 2] ^= 64
    text = refusal(replace(file, words=words).to_bytes())
    assert text.startswith("block ") and f"of {len(file.sums)}" in text
    sums = file.sums.copy()
    sums[1] ^= 1
    assert refusal(replace(file, sums=sums).to_bytes()).startswith("block 1 of")


@pytest.mark.parametrize("data", FILES, ids=["lossy", "lossless"])
def test_arithmetic_that_gives_other_probabilities_is_found(data):
    other = latents("MADEPrior")
    for part in (other.prior, other.decoder, other.encoder):
        for weight in part.parameters():
            weight.data.mul_(1 + 1e-4)
    theirs = BitFile.read(compress(other, IMAGES[:1]))
    refused = refusal(replace(BitFile.read(data), weights=theirs.weights).to_bytes(), other)
    assert refused.startswith("block 0 of") and "the arithmetic of this machine" in refused


@both
def test_a_file_of_another_model_is_refused_by_its_weights(data):
    assert "by another model: the SHA-256" in refusal(data, latents("MADEPrior", seed=1))
    assert "by another model" in refusal(data, grid())


@both
def test_absurd_sizes_take_no_memory(data):
    file = BitFile.read(data)
    blocks = 50_000
    tracemalloc.start()
    for count in (2**32 - 1, blocks * 256, 301, 299, 0):
        refusal(replace(file, count=count).to_bytes())
        many = np.zeros(blocks, dtype=np.uint32)
        refusal(replace(file, count=count, sums=many).to_bytes())
        refusal(replace(file, initial=count or 9).to_bytes())
        huge = bytearray(file.to_bytes())
        struct.pack_into("<I", huge, 16, 2**32 - 1)  # blocks
        refusal(huge)
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


@pytest.mark.parametrize("lossless", [False, True])
def test_a_file_of_no_images_claims_none(lossless):
    file = BitFile.read(compress(MODEL, IMAGES[:0], lossless))
    assert "1 images in 0 blocks" in refusal(replace(file, count=1).to_bytes())


def test_a_stack_that_runs_empty_is_no_source_of_images_without_end():
    # A number below any probability is that of the first category, and stays: codes that are all 0.
    file = BitFile.read(compress(MODEL, IMAGES[:1]))
    crc = zlib.crc32(bytes(4 * 256 * MODEL.encode(IMAGES[:1]).numel()))
    sums, words = np.full(1000, crc, dtype=np.uint32), np.array([1], dtype=np.uint32)
    endless = replace(file, count=256_000, sums=sums, words=words)
    assert refusal(endless.to_bytes()).startswith("block 0 of 1000")
