"""Images to bytes and back, by the probabilities of a trained model."""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvae.coding.ans import Stack, initial_words
from dvae.coding.bitfile import BitFile
from dvae.coding.blocks import one_thread
from dvae.coding.lossless import LosslessCoder
from dvae.coding.lossy import LossyCoder
from dvae.data.batch import as_batch
from dvae.doing import doing
from dvae.models import DiscreteVAE

__all__ = ["compress", "decompress", "decompressed"]


def compress(model: DiscreteVAE, images: Any, lossless: bool = False) -> bytes:
    r"""Write images as bits, about as many as the model's bound says.

    **Lossy**: the most probable code of each image, in :math:`-\log_2 p(z)` bits under the model's
    prior. **Lossless**, where the likelihood is a mass over the values of a pixel: bits back with
    asymmetric numeral systems. The code of an image is drawn by popping bits that the images before
    it have left, which pays :math:`-\log_2 q(z|x)` bits back of the :math:`-\log_2 p(x, z)` that
    are pushed then: the length is the negative ELBO, in bits, in expectation. The first image has
    none before it; its initial bits are part of the file.

    Probabilities are computed on the CPU in float64, by one thread, for blocks of fixed size, and
    rounded to integers, so that neither the machine's threads nor how images are batched change
    them. Files are those of the weights and of this version's arithmetic: a machine whose
    rounding differs finds it by a checksum.

    Args:
        model: Trained model.
        images: What `encode` takes.
        lossless: Whether all pixels are kept.

    Returns:
        Content of a file; see `BitFile`. Its header and checksums, 56 bytes and 4 a block of up to
        256 images, are part of its length.

    Raises:
        MissingExtra: constriction is not installed.
        ValueError: The images are of another shape than the model's, or the likelihood has no
            probability for each value of a pixel, or not for those of these images.

    References:
        J. Townsend, T. Bird, D. Barber, 2019, arXiv 1901.04866 (bits back with ANS); F. Kingma,
        P. Abbeel, J. Ho, 2019, arXiv 1905.06845 (initial bits).
    """
    image = as_batch(images, model.image_shape).image
    coder = LosslessCoder(model) if lossless else LossyCoder(model)
    stack, sums = Stack(initial_words(coder.initial), coder.initial), []
    with one_thread(), doing("compressing") as work:
        for block in reversed(coder.blocks(len(image))):
            work.now("compressing images %d to %d of %d", block.start, block.stop - 1, len(image))
            content = coder.push(stack, model.images_of(image[block]))
            sums.append(_sum(content))
    return BitFile(
        lossless,
        model.image_shape,
        len(image),
        stack.initial,
        coder.weights,
        np.array(sums[::-1], dtype=np.uint32),
        stack.words,
    ).to_bytes()


def decompress(model: DiscreteVAE, data: bytes) -> Tensor:
    """Read images that `compress` wrote, with the same weights.

    Args:
        model: The model that wrote them.
        data: Content of a file.

    Returns:
        Pixels in [0, 1], ``(N, C, H, W)``, on the CPU: the images themselves, or what `decode`
        makes of their codes, on the model's device and in its precision, in blocks.

    Raises:
        MissingExtra: constriction is not installed.
        ValueError: The file is damaged or another model's, or this machine's arithmetic gives other
            probabilities; the message names the block.
    """
    found = list(decompressed(model, data))
    return torch.cat(found) if found else torch.zeros(0, *model.image_shape)


def decompressed(model: DiscreteVAE, data: bytes) -> Iterator[Tensor]:
    """Read images block by block, whose memory does not depend on what the file says of itself.

    Args:
        model: The model that wrote them.
        data: Content of a file.

    Yields:
        Pixels in [0, 1], ``(B, C, H, W)``, of at most 256 images.

    Raises:
        MissingExtra: constriction is not installed.
        ValueError: See `decompress`. The blocks before are whole.
    """
    file = BitFile.read(data)
    coder = LosslessCoder(model) if file.lossless else LossyCoder(model)
    if file.weights != coder.weights or file.shape != tuple(model.image_shape):
        raise ValueError(
            "the file was written by another model: the SHA-256 of its weights begins with "
            f"{file.weights.hex()[:12]}, that of this one's with {coder.weights.hex()[:12]}"
        )
    sums, most = file.sums.tolist(), len(file.sums) * coder.rows
    blocks = coder.blocks(min(file.count, most))
    if file.count > most or len(blocks) != len(sums):
        raise ValueError(f"the file is damaged: {file.count} images in {len(sums)} blocks")
    stack = Stack(file.words, file.initial)
    for number, block in enumerate(blocks):
        what = f"decompressing images {block.start} to {block.stop - 1} of {file.count}"
        with one_thread(), doing(what):
            content, image = coder.pop(stack, block.stop - block.start)
        if _sum(content) != sums[number] or stack.spent:
            raise ValueError(
                f"block {number} of {len(blocks)} (images {block.start} to {block.stop - 1}) does "
                "not decode to what was encoded: the file is damaged, or the arithmetic of this "
                "machine gives other probabilities"
            )
        yield image
    if not np.array_equal(stack.words, initial_words(file.initial)):
        raise ValueError(f"the file is damaged: bits are left over after its {file.count} images")


def _sum(content: Tensor) -> int:
    return zlib.crc32(content.to(torch.int32).numpy().astype("<i4").tobytes())
