"""Photographs in the files of a trained code book, beside JPEG, WebP and AVIF.

    python -m benchmarks.lossy runs/.../checkpoints/best.ckpt FOLDER

FOLDER has photographs for the test, as `ImageFolder` finds them; the first of an order by seed 0
are taken. Ours is one file, header included; the histogram is that of these images' own codes, so
that no other needs fewer bits. So that no header counts for more than ours, the others get one
picture with all photographs side by side: once at the best quality whose file is not larger than
ours (the least quality, where none is), and once at the least quality that reaches our PSNR. The
picture's last row are photographs that the prior draws.
"""

import argparse
import io
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

import dvae
from benchmarks.measure import RESULTS, conditions, machine, read_csv, write_csv
from dvae.coding import compress, decompress
from dvae.data import ImageFolder
from dvae.data.batch import as_pixels
from dvae.metrics import psnr as psnr_of
from dvae.models import DiscreteVAE
from dvae.plotting import labelled_rows

__all__ = ["lossy", "main", "others", "ours"]

PICTURE = "lossy.png"
_WAYS: dict[str, dict[str, Any]] = {
    "JPEG": {"optimize": True},
    "WebP": {"method": 6},
    "AVIF": {},
}
_QUALITIES = range(1, 96)
_SHOWN = 12


def ours(model: DiscreteVAE, images: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Compress with a model.

    Args:
        model: A trained model.
        images: Bytes ``(N, C, H, W)``.

    Returns:
        A row of the table, and what comes back, pixels in [0, 1].
    """
    start = time.process_time()
    data = compress(model, images)
    there = time.process_time() - start
    back = decompress(model, data)
    seconds = time.process_time() - start - there
    index = torch.cat([model.encode(as_pixels(x)) for x in images.split(100)])
    share = index.flatten().bincount() / index.numel()
    histogram = -torch.special.xlogy(share, share).sum().item() / math.log(2)
    row = {
        "way": "dvae",
        "bits_per_image": round(8 * len(data) / len(images), 1),
        "nominal_bits": round(index[0].numel() * math.log2(model.num_codes), 1),
        "histogram_bits": round(index[0].numel() * histogram, 1),
        "psnr": _psnr(back, images),
        "images_per_cpu_second": round(len(images) / there),
        "back_per_cpu_second": round(len(images) / seconds),
    }
    return row, back


def others(images: Tensor, bits: float, psnr: float) -> Iterator[tuple[dict[str, object], Tensor]]:
    """Compress in the usual ways, at equal bits and at equal PSNR.

    Args:
        images: Bytes ``(N, C, H, W)``.
        bits: Bits an image of ours.
        psnr: PSNR of ours, dB.

    Yields:
        A row of the table, and what comes back at equal bits, pixels in [0, 1].
    """
    for way in _WAYS:
        measured = [_through(images, way, quality)[:2] for quality in _QUALITIES]
        fitting = [n for n, (size, _) in enumerate(measured) if size <= bits]
        as_good = [size for size, found in measured if found >= psnr]
        size, found, back = _through(images, way, _QUALITIES[max(fitting, default=0)])
        yield (
            {
                "way": way,
                "bits_per_image": round(size, 1),
                "psnr": found,
                "bits_at_our_psnr": round(min(as_good), 1) if as_good else "",
            },
            back,
        )


def _through(images: Tensor, way: str, quality: int) -> tuple[float, float, Tensor]:
    """Return bits an image, PSNR, and the images that come back."""
    count, channels, height, width = images.shape
    across = max(n for n in range(1, math.isqrt(count) + 1) if count % n == 0)
    tiles = images.view(-1, across, channels, height, width)
    mosaic = tiles.permute(0, 3, 1, 4, 2).reshape(-1, across * width, channels)
    file = io.BytesIO()
    Image.fromarray(mosaic.numpy()).save(file, way, quality=quality, **_WAYS[way])
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB")))
    rows = pixels.view(-1, height, across, width, channels).permute(0, 2, 4, 1, 3)
    back = as_pixels(rows.reshape(images.shape).contiguous())
    return 8 * len(file.getvalue()) / count, _psnr(back, images), back


def _psnr(back: Tensor, images: Tensor) -> float:
    return round(float(psnr_of(back, as_pixels(images)).mean()), 2)


def lossy() -> str:
    """Make the table of photographs."""
    rows = read_csv("lossy")
    if not rows:
        return ""
    first = rows[0]
    lines = ["| | bits an image | PSNR, dB | bits an image for our PSNR |", "|---|---|---|---|"]
    lines += [
        f"| {row['way']} | {row['bits_per_image']} | {row['psnr']} | "
        f"{row['bits_at_our_psnr'] or '-'} |"
        for row in rows
    ]
    about = (
        f"{first['images']} images of {first['data']}; {first['recipe']}; nominal "
        f"{first['nominal_bits']} bits, {first['histogram_bits']} by the histogram of the codes; "
        f"{first['images_per_cpu_second']} images a CPU second there "
        f"and {first['back_per_cpu_second']} back ({conditions(first)})"
    )
    return "\n".join([*lines, "", f"`python -m benchmarks.lossy MODEL FOLDER`: {about}."])


def main() -> None:
    """Run the comparison, write table and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="checkpoint or run")
    parser.add_argument("folder", help="of photographs")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--data", default="", help="name of the photographs, for the table")
    parser.add_argument("--recipe", default="", help="how the model was trained, for the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = dvae.load(args.model)
    stored = ImageFolder(args.folder, image_size=model.image_shape[-1]).load("test").images
    order = torch.randperm(len(stored), generator=torch.Generator().manual_seed(0))
    images = stored[order[: args.images]]
    first, back = ours(model, images)
    rows, shown = [first], {"original": as_pixels(images[:_SHOWN]), "dvae": back[:_SHOWN]}
    peers = others(images, first["bits_per_image"], first["psnr"])
    for row, back in peers:
        rows.append(row)
        shown[str(row["way"])] = back[:_SHOWN]
    shown["drawn from the prior"] = model.sample(_SHOWN, generator=Generator().manual_seed(0))
    about = {"data": args.data or Path(args.folder).name, "images": len(images)}
    about["recipe"] = args.recipe or args.model
    labelled_rows(shown).save(RESULTS / PICTURE)
    about |= machine("cpu", ["constriction", "pillow"])
    now = [
        {**dict.fromkeys(("way", *first, "bits_at_our_psnr"), ""), **row, **about} for row in rows
    ]
    for row in now:
        print(row)
    print(f"wrote {write_csv('lossy', now)}")


if __name__ == "__main__":
    main()
