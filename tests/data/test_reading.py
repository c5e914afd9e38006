"""What a file is read as does not depend on how it says it: orientation, depth, opacity, format."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dvae.data import ImageFolder, Pixels
from dvae.data.reading import ImageReader, common_bits, missing_plugin, suffixes
from dvae.explore import read_image

SIZE = 32
RNG = np.random.default_rng(0)
# Blocks of eight pixels, so that formats with loss tell the corners apart.
UPRIGHT = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
LOSSLESS = {"png": {}, "tif": {}, "webp": {"lossless": True, "exact": True}}
LOSSY = {
    "jpg": {"quality": 95, "subsampling": 0},
    "mpo": {"quality": 95, "subsampling": 0},
    "avif": {"quality": 95, "subsampling": "4:4:4"},
}
# Of each orientation, how a camera that was held so stores an upright scene.
STORED = {
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.rotate(90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.rotate(-90),
}


def read(path, **kwargs):
    return ImageReader((3, SIZE, SIZE), Pixels(**kwargs))(path)


def as_tensor(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_an_image_is_upright_in_every_format(suffix, orientation, tmp_path):
    if f".{suffix}" not in suffixes():
        pytest.skip(f"this Pillow reads no .{suffix}")
    stored = STORED[orientation](Image.fromarray(UPRIGHT))
    exif = stored.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    stored.save(path, exif=exif, **(LOSSLESS | LOSSY)[suffix])
    expected = as_tensor(UPRIGHT)
    for found in (read(path), (read_image(path, (3, SIZE, SIZE)) * 255).round().byte()):
        if suffix in LOSSLESS:
            assert torch.equal(found, expected)
        # A wrong turn is off by some 80 on average.
        assert (found.float() - expected.float()).abs().mean() < 8


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_a_damaged_note_beside_the_pixels_costs_no_image(exif, tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "x.jpg", exif=exif)
    assert read(tmp_path / "x.jpg").shape == (3, SIZE, SIZE)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_folder_of_deep_files_is_scaled_by_what_all_of_them_take(bits, suffix, tmp_path):
    white = 2**bits - 1
    for number in range(20):
        grey = RNG.integers(0, white // (number + 1) + 1, (SIZE, SIZE)).astype(np.uint16)
        if number == 0:
            grey[0, 0] = white
        Image.fromarray(grey).save(tmp_path / f"{number:02}.{suffix}")
        if number == 18:
            dim = torch.from_numpy(grey.astype(np.int64))
    assert common_bits(sorted(tmp_path.iterdir())) == bits
    data = ImageFolder(str(tmp_path), SIZE)
    images = data.load("train").images
    assert images.max() == 255
    # The dimmest file but the test's is scaled as the others are, and not to its own range.
    expected = (dim * 255 / white).round().byte()
    assert torch.equal(images[17, 0], expected)


def test_bits_that_a_file_or_somebody_says_are_taken(tmp_path):
    grey = np.full((SIZE, SIZE), 600, np.uint16)
    Image.fromarray(grey).save(tmp_path / "x.png")
    for bits, expected in ((10, 150), (12, 37), (16, 2)):
        assert read(tmp_path / "x.png", bits=bits).unique().tolist() == [expected]
    with pytest.raises(ValueError, match=r"cannot read .*x.png: pixels of more than 9 bits"):
        read(tmp_path / "x.png", bits=9)
    # TIFF has a tag for it, here of pixels packed in 12 bits: two in three bytes.
    packed = bytes([0x25, 0x82, 0x58]) * (SIZE * SIZE // 2)
    write_tiff(tmp_path / "y.tif", packed, bits=12)
    assert read(tmp_path / "y.tif").unique().tolist() == [37]
    assert common_bits([tmp_path / "y.tif"]) is None


def write_tiff(path, pixels, bits):
    """Write grey pixels as Pillow itself does not, into one strip."""
    tags = [(256, SIZE), (257, SIZE), (258, bits), (259, 1), (262, 1), (273, 0), (277, 1)]
    tags += [(278, SIZE), (279, len(pixels))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        tag.to_bytes(2, "little")
        + (4).to_bytes(2, "little")
        + (1).to_bytes(4, "little")
        # 273 is the place of the strip
        + (start if tag == 273 else value).to_bytes(4, "little")
        for tag, value in tags
    )
    count = len(tags).to_bytes(2, "little")
    path.write_bytes(b"II*\0\x08\0\0\0" + count + entries + b"\0" * 4 + pixels)


@pytest.mark.parametrize("background", ["white", "black", "#336699"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_images_lie_on_paper(mode, background, tmp_path):
    alpha = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    grey = RNG.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    image = image.convert("RGBA") if mode != "LA" else image
    if mode in ("P", "PA"):
        image = image.quantize(64)
    image.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as stored:
        *colour, opacity = np.moveaxis(np.array(stored.convert("RGBA"), dtype=float), -1, 0)
    paper = np.array(Image.new("RGB", (1, 1), background), dtype=float).reshape(3, 1, 1)
    expected = paper + (np.stack(colour) - paper) * opacity / 255
    found = read(tmp_path / "x.png", background=background)
    assert np.abs(found.numpy() - expected).max() <= 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"background": "snow white"}, "pixels.background must be a colour .*; got 'snow white'"),
        ({"bits": 0}, r"pixels.bits must be in \[1, 16\]; got 0"),
        ({"bits": 17}, r"pixels.bits must be in \[1, 16\]; got 17"),
    ],
)
def test_wrong_values_are_refused_at_once(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Pixels(**kwargs)


@pytest.mark.parametrize("suffix", sorted(suffixes()))
def test_every_suffix_that_pillow_reads_and_writes_is_read(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    try:
        Image.fromarray(UPRIGHT).save(path)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"Pillow writes no {suffix}")
    assert read(path).shape == (3, SIZE, SIZE)


def test_no_file_is_handed_to_another_program(tmp_path):
    assert not suffixes() & {".eps", ".ps", ".wmf", ".h5", ".mpg", ".pdf"}
    Image.fromarray(UPRIGHT).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")  # which Pillow would give to Ghostscript
    with pytest.raises(ValueError, match="not an image"):
        read(tmp_path / "x.png")


def test_a_suffix_whose_plugin_is_missing_names_it():
    plugins = {".heic": "pillow-heif", ".hif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
    for suffix, package in plugins.items():
        assert missing_plugin(suffix) == (None if suffix in suffixes() else package)
    assert missing_plugin(".txt") is None and missing_plugin(".png") is None


@pytest.fixture
def plugin(monkeypatch):
    """A plugin as pillow-heif is: imported, it does nothing; its function registers a format."""
    from PIL import BmpImagePlugin

    from dvae.data import reading

    def register():
        # BMP under another name.
        Image.register_open("HEIF", BmpImagePlugin.BmpImageFile, lambda head: head[:2] == b"BM")
        Image.register_extension("HEIF", ".heic")

    module = ModuleType("pillow_heif")
    module.register_heif_opener = register
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    known = {name: dict(getattr(Image, name)) for name in ("OPEN", "EXTENSION")}
    order = list(Image.ID)
    for cached in (reading._formats, reading.suffixes):
        cached.cache_clear()
    yield
    for name, before in known.items():
        getattr(Image, name).clear()
        getattr(Image, name).update(before)
    Image.ID[:] = order
    for cached in (reading._formats, reading.suffixes):
        cached.cache_clear()


def test_with_its_plugin_it_is_read(plugin, tmp_path):
    assert ".heic" in suffixes() and missing_plugin(".heic") is None
    Image.fromarray(UPRIGHT).save(tmp_path / "x.bmp")
    (tmp_path / "x.bmp").rename(tmp_path / "x.heic")
    assert torch.equal(read(tmp_path / "x.heic"), as_tensor(UPRIGHT))
