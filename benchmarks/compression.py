"""Bits of images in files of a trained model, beside its bound and the usual compressors.

Images are those of MNIST's test split, in its order, binarised by sampling once or in 256 greys.
Ours are decompressed in a process of its own, with other threads, and compared byte by byte. The
compressors get all images as one string, a bit for a binary pixel; PNG and WebP (lossless) an image
each, as pictures.

    python -m benchmarks.compression runs/.../checkpoints/best.ckpt --binarization fixed
"""

import argparse
import bz2
import gzip
import hashlib
import io
import lzma
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import dvae
from benchmarks.measure import conditions, machine, read_csv, write_csv
from dvae.coding import BitFile, compress, decompress
from dvae.data import MNIST
from dvae.data.batch import as_pixels
from dvae.data.binarize import binarize_once
from dvae.models import DiscreteVAE
from dvae.models.codec import evaluating
from dvae.models.evaluation import bounds

__all__ = ["bound", "compression", "main", "others", "ours"]

_THERE = """
import hashlib, sys, time, torch, dvae
from dvae.coding import decompress
torch.set_num_threads(int(sys.argv[3]))
model, data = dvae.load(sys.argv[1]), open(sys.argv[2], "rb").read()
start = time.process_time()
images = decompress(model, data)
print(time.process_time() - start, hashlib.sha256(images.numpy().tobytes()).hexdigest())
"""


@torch.no_grad()
def bound(model: DiscreteVAE, images: Tensor, samples: int = 20) -> float:
    """Return the negative ELBO of images in bits per dimension, at exact draws.

    Args:
        model: A model whose likelihood is a mass.
        images: Bytes ``(N, C, H, W)``.
        samples: Draws of each image.
    """
    noise, total = model.evaluation.noise("codes"), 0.0
    with evaluating(model):
        for block in as_pixels(images).split(256):
            q = model.bottleneck(model.encoder(block), model.prior)
            found = bounds(block, q, q.sample(samples, noise), model, 8192)
            total += found.elbo.double().sum().item()
    return -total / images.numel() / math.log(2)


def ours(source: str, images: Tensor, threads: int) -> Iterator[dict[str, object]]:
    """Compress images with a model, decompress them elsewhere; a row for each kind of file.

    Args:
        source: What `dvae.load` takes.
        images: Bytes ``(N, C, H, W)``.
        threads: Threads of the process that decompresses.
    """
    model = dvae.load(source)
    for lossless in (True, False):
        start = time.process_time()
        data = compress(model, images, lossless)
        there = time.process_time() - start
        with tempfile.NamedTemporaryFile(suffix=".dvae") as file:
            Path(file.name).write_bytes(data)
            command = [sys.executable, "-c", _THERE, source, file.name, str(threads)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        back, found = answer.split()
        expected = as_pixels(images) if lossless else decompress(model, data)
        same = hashlib.sha256(expected.numpy().tobytes()).hexdigest() == found
        yield {
            "way": "dvae, lossless" if lossless else "dvae, lossy",
            "bytes": len(data),
            "bits_per_dim": round(8 * len(data) / images.numel(), 5),
            "bound": round(bound(model, images), 5) if lossless else "",
            "initial_bits": 32 * BitFile.read(data).initial,
            "images_per_cpu_second": round(len(images) / there),
            "back_per_cpu_second": round(len(images) / float(back)),
            "same_in_another_process": same,
        }


def others(images: Tensor, binary: bool) -> Iterator[dict[str, object]]:
    """Compress images with what people have; a row for each way.

    Args:
        images: Bytes ``(N, 1, H, W)``.
        binary: Whether they are 0 and 255 only.
    """
    pixels = images[:, 0].numpy()
    whole = (np.packbits(pixels > 0) if binary else pixels).tobytes()
    ways: dict[str, Callable[[], int]] = {
        "bz2": lambda: len(bz2.compress(whole, 9)),
        "gzip": lambda: len(gzip.compress(whole, 9)),
        "lzma": lambda: len(lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME)),
        "PNG": lambda: sum(_picture(x, binary, "PNG", optimize=True) for x in pixels),
        "WebP": lambda: sum(_picture(x, False, "WEBP", lossless=True, quality=100) for x in pixels),
    }
    for way, size in ways.items():
        start = time.process_time()
        found = size()
        yield {
            "way": way,
            "bytes": found,
            "bits_per_dim": round(8 * found / images.numel(), 5),
            "images_per_cpu_second": round(len(images) / (time.process_time() - start)),
        }


def _picture(pixels: np.ndarray, binary: bool, kind: str, **options: object) -> int:
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert("1") if binary else image).save(file, kind, **options)
    return len(file.getvalue())


def compression() -> str:
    """Make the table of files beside other compressors."""
    measured = read_csv("compression")
    if not measured:
        return ""
    lines = ["| bits a dimension | dvae, lossless | its bound | bz2 | gzip | lzma | PNG | WebP |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    notes = []
    for data in dict.fromkeys(row["data"] for row in measured):
        rows = {row["way"]: row for row in measured if row["data"] == data}
        first = rows.pop("dvae, lossless")
        rows.pop("dvae, lossy")
        cells = [first["bits_per_dim"], first["bound"], *(x["bits_per_dim"] for x in rows.values())]
        figures = " | ".join(f"{float(cell):.4f}" for cell in cells)
        lines.append(f"| {first['images']} images, {data} | {figures} |")
        same = "all" if first["same_in_another_process"] == "True" else "NOT ALL"
        notes.append(
            f"{data}: {first['recipe']}; {same} pixels came back in a process of other threads, "
            f"{first['images_per_cpu_second']} images a CPU second there and "
            f"{first['back_per_cpu_second']} back ({conditions(first)})"
        )
    command = "`python -m benchmarks.compression MODEL`, header and initial bits included"
    return "\n".join([*lines, "", f"{command}. {'. '.join(notes)}."])


def main() -> None:
    """Run the comparison, print it and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="checkpoint or run")
    parser.add_argument("--binarization", choices=("fixed", "none"), default="fixed")
    parser.add_argument("--images", type=int, default=10_000, help="the first ones of the test")
    parser.add_argument("--threads", type=int, default=1, help="of torch; one more decompresses")
    parser.add_argument("--recipe", default="", help="how the model was trained, for the table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stored = MNIST().load("test").images
    images = binarize_once(stored, args.binarization, "test")[: args.images]
    pixels = "grey" if args.binarization == "none" else args.binarization
    about = {"data": f"MNIST test, {pixels}", "images": len(images)}
    about["recipe"] = args.recipe or args.model
    rows = [{**about, **row} for row in ours(args.model, images, args.threads + 1)]
    rows += [{**about, **row} for row in others(images, args.binarization == "fixed")]
    for row in rows:
        print("  ".join(f"{row.get(key, '')!s:>14}" for key in rows[0]))
    now = [{**row, **machine("cpu", ["constriction"])} for row in rows]
    kept = [row for row in read_csv("compression") if row["data"] != about["data"]]
    print(f"wrote {write_csv('compression', [*now, *kept])}")


if __name__ == "__main__":
    main()
