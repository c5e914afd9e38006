"""Compression on the command line: dvae compress runs/.../version_0 photos --out bits."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import write_png

from dvae.coding.bitfile import BitFile
from dvae.coding.codec import compress, decompressed
from dvae.commands import Parser, run_command
from dvae.data.folder_layout import find_images
from dvae.data.reading import ImageReader, common_bits
from dvae.doing import doing
from dvae.runs.files import check_new, whole_folder
from dvae.sharing.load import load

_FILE = "images.dvae"
# Modes of files whose pixels are read as they are, by channels.
_AS_THEY_ARE = {1: ("1", "L"), 3: ("RGB",)}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: ``compress`` or ``decompress`` and its arguments; those of the process by default.

    Returns:
        The exit code: 0, or 2 where the input was bad. ``DVAE_TRACEBACK=1`` raises instead.
    """
    return run_command(_parser(), lambda given: given.run(given), args)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="dvae", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser(
        "compress",
        help="images to one file",
        description=f"Write images to one file, DIR/{_FILE}, with a trained model.",
        allow_abbrev=False,
    )
    packing.set_defaults(run=_compress)
    unpacking = commands.add_parser(
        "decompress",
        help="that file to images",
        description="Write the images of a file as DIR/00000.png and so on, with the same model.",
        allow_abbrev=False,
    )
    unpacking.set_defaults(run=_decompress)
    for command in (packing, unpacking):
        command.add_argument("model", metavar="CKPT", help="checkpoint, run, or folder of `share`")
    packing.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="files or folders; brought to the model's size as training does",
    )
    unpacking.add_argument("file", type=Path, metavar="FILE", help=f"the {_FILE}")
    packing.add_argument("--lossless", action="store_true", help="keep all pixels, by bits back")
    for command in (packing, unpacking):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
        command.add_trusted()
    return parser


def _compress(args: argparse.Namespace) -> None:
    check_new(args.out)
    model = load(args.model, args.trusted)
    data = compress(model, _read(args.images, model.image_shape, args.lossless), args.lossless)
    with whole_folder(args.out) as beside:
        (beside / _FILE).write_bytes(data)
    file = BitFile.read(data)
    kind = f"lossless, initial bits {32 * file.initial}" if args.lossless else "lossy"
    print(
        f"{args.out / _FILE}  {len(data)} bytes, {file.bits_per_dim():.4g} bits a dimension: "
        f"{file.count} images of {'x'.join(map(str, file.shape))} in the order given, {kind}"
    )


def _decompress(args: argparse.Namespace) -> None:
    check_new(args.out)
    data = args.file.read_bytes()
    count = 0
    with whole_folder(args.out) as beside:
        for block in decompressed(load(args.model, args.trusted), data):
            for image in (block * 255).round().to(torch.uint8):
                write_png(image, str(beside / f"{count:05}.png"))
                count += 1
    print(f"{args.out}  {count} images")


def _read(paths: Sequence[Path], shape: tuple[int, int, int], lossless: bool) -> Tensor:
    files = [f for path in paths for f in (find_images(path).files if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"there are no images in {', '.join(map(str, paths))}")
    reader = ImageReader(shape, bits=common_bits(files))
    with doing("reading") as work:
        found = torch.stack(list(work.count(map(reader, files), "images")))
    channels, height, width = shape
    for file in files if lossless else ():
        with Image.open(file) as image:
            size, mode = image.size, image.mode
        if size != (width, height) or mode not in _AS_THEY_ARE[channels]:
            raise ValueError(
                f"{file} is {size[0]}x{size[1]} of mode {mode}: lossless files are of "
                f"{width}x{height} and {' or '.join(_AS_THEY_ARE[channels])}, the model's"
            )
    return found


if __name__ == "__main__":
    sys.exit(main())
