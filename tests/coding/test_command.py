"""The two commands: images to a file and back, and what is refused in a line."""

import numpy as np
import pytest
import torch
from PIL import Image

from dvae.cli import main
from dvae.sharing import load
from tests.explore.conftest import CATEGORICAL, written


@pytest.fixture
def model(tmp_path):
    return written(tmp_path / "a.ckpt", CATEGORICAL)


@pytest.fixture
def photos(tmp_path):
    """Black-or-white images of the model's size, by the order of their names."""
    pixels = np.random.default_rng(0).integers(0, 2, (12, 28, 28), dtype=np.uint8) * 255
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number:03}.png")
    return pixels


def run(capsys, *args, code=0):
    assert main([str(arg) for arg in args]) == code
    captured = capsys.readouterr()
    assert (captured.err if code else captured.out).count("\n") == 1
    return captured.err if code else captured.out


def pictures(folder):
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())])


def test_images_come_back(capsys, tmp_path, model, photos):
    for out, option in (("lossy", ()), ("lossless", ("--lossless",))):
        bits, back = tmp_path / out, tmp_path / f"{out} back"
        said = run(capsys, "compress", model, tmp_path / "photos", "--out", bits, *option)
        size = (bits / "images.dvae").stat().st_size
        assert f"{size} bytes" in said and "12 images of 1x28x28 in the order given" in said
        assert f"{8 * size / photos.size:.4g} bits a dimension" in said
        assert ("initial bits" in said) == bool(option)
        run(capsys, "decompress", model, bits / "images.dvae", "--out", back)
    assert np.array_equal(pictures(tmp_path / "lossless back"), photos)
    image = torch.from_numpy(photos).unsqueeze(1)
    expected = (load(model).reconstruct(image) * 255).round()[:, 0].numpy()
    assert np.array_equal(pictures(tmp_path / "lossy back"), expected)


def test_what_cannot_be_done_is_said_in_a_line_and_leaves_no_folder(
    capsys, tmp_path, model, photos
):
    out, photo = tmp_path / "out", tmp_path / "photos" / "003.png"
    bits = tmp_path / "bits"
    run(capsys, "compress", model, tmp_path / "photos", "--out", bits)
    file = bits / "images.dvae"

    def refused(*args):
        said = run(capsys, *args, "--out", out, code=2)
        assert not out.exists()
        return said

    assert "cannot read" in refused("compress", model, tmp_path / "gone.png")
    assert "this is no file of compressed images" in refused("decompress", model, photo)
    assert "No such file" in refused("decompress", model, tmp_path / "gone.dvae")
    other = written(tmp_path / "b.ckpt", CATEGORICAL, seed=1)
    assert "by another model" in refused("decompress", other, file)
    file.write_bytes(file.read_bytes()[:-8])
    assert "block 0 of 1" in refused("decompress", model, file)
    Image.open(photo).resize((30, 28)).save(photo)
    lossless = ("compress", model, photo, "--lossless")
    assert "003.png is 30x28 of mode L: lossless files are of 28x28" in refused(*lossless)
    Image.fromarray(photos[3]).convert("RGB").save(photo)
    assert "of mode RGB" in refused(*lossless)
    Image.fromarray(photos[3] // 2).save(photo)
    assert "binarize or round them first" in refused(*lossless)
    (tmp_path / "empty").mkdir()
    assert "there are no images" in refused("compress", model, tmp_path / "empty")
    out = bits
    said = run(capsys, "compress", model, photo, "--out", out, code=2)
    assert "bits" in said
