"""Images reach the model in its shape, from a data set, a folder or a file."""

import numpy as np
import pytest
import torch
from PIL import Image

from dvae.data import MNIST
from dvae.explore import load_gallery, read_image

GRAY, COLOUR = (1, 28, 28), (3, 8, 8)


def config(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text)
    return folder


def test_without_a_run_the_bundled_mnist_is_shown_image_by_image(tmp_path):
    gallery = load_gallery(GRAY, tmp_path / "x" / "a.ckpt")
    rows = MNIST().rows("test").images
    assert gallery.size == len(rows.labels) == 10_000
    for number in (0, 17, 9_999):
        image, title = gallery[number]
        assert torch.equal(image, rows.images[number].float() / 255)
        assert title == f"test image {number}, label {int(rows.labels[number])}"
    for number in (-1, 10_000):
        with pytest.raises(ValueError, match=rf"\[0, 10000\) of MNIST.*got {number}"):
            gallery[number]


def test_the_runs_own_data_is_taken_with_its_settings(tmp_path):
    run = config(
        tmp_path / "run",
        "data: {class_path: dvae.data.MNIST, init_args: {binarization: threshold}}",
    )
    for gallery in (
        load_gallery(GRAY, run / "checkpoints" / "a.ckpt"),
        load_gallery(GRAY, tmp_path / "a.ckpt", run),
    ):
        assert set(gallery[0][0].unique().tolist()) == {0.0, 1.0}


def test_a_folders_images_go_by_their_class_and_uploads_are_read_as_they_are(tmp_path):
    photos = tmp_path / "photos"
    for number in range(20):
        (photos / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(photos / "ab"[number % 2] / f"{number:02}.png")
    settings = (
        f"{{data_dir: {photos}, image_size: 8, pixels: {{background: '#ff0000', bits: 12}}, "
        # As former runs wrote it, and what only training does, by classes of any package.
        "flip: true, skip_unreadable: true, augment: [{class_path: torchvision.ops.Permute}]}"
    )
    run = config(
        tmp_path / "run", f"data: {{class_path: dvae.data.ImageFolder, init_args: {settings}}}"
    )
    gallery = load_gallery(COLOUR, tmp_path / "x.ckpt", run)
    red = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(COLOUR)
    titles = [gallery[number][1] for number in range(gallery.size)]
    assert titles == ["a/18.png, label a", "b/19.png, label b"]
    assert torch.equal(gallery[0][0], red) and torch.equal(gallery.open(photos / "a/00.png"), red)
    # A folder that is no run's is read on white, its splits as training knows them.
    for part in ("Training", "dev"):
        (tmp_path / "splits" / part).mkdir(parents=True)
        Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "splits" / part / "x.png")
    gallery = load_gallery(COLOUR, tmp_path / "x.ckpt", tmp_path / "splits")
    assert (gallery.size, gallery[0][1]) == (1, "x.png")
    assert torch.equal(gallery[0][0], torch.ones(COLOUR))


def test_images_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="MNIST has images of 1x28x28 and the model wants 3x8x8"):
        load_gallery(COLOUR, tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {class_path: os.system, init_args: {}}", "os.system, which is none of dvae's"),
        ("data: {class_path: evil.MNIST}", "evil.MNIST, which is none of dvae's"),
        ("data: {class_path: dvae.data.Tokens}", "none of dvae's"),
        ("data: {class_path: MNIST, init_args: {colour: 1}}", "do not fit.*colour"),
        ("trainer: {}", "names no data set"),
        ("data: [", "no plain YAML"),
    ],
)
def test_a_config_that_describes_no_data_set_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_gallery(GRAY, tmp_path / "a.ckpt", config(tmp_path / "run", text))


def test_a_folder_of_images_is_cut_and_scaled(tmp_path):
    Image.new("RGB", (40, 20), (255, 0, 51)).save(tmp_path / "b.png")
    Image.new("L", (20, 40), 102).save(tmp_path / "a.png")
    gallery = load_gallery(COLOUR, tmp_path / "x.ckpt", tmp_path)
    assert gallery.size == 2 and gallery[0][1] == "a.png"
    torch.testing.assert_close(gallery[0][0], torch.full(COLOUR, 0.4))
    expected = torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(COLOUR)
    torch.testing.assert_close(gallery[1][0], expected)
    assert load_gallery(GRAY, tmp_path / "x.ckpt", tmp_path)[0][0].shape == GRAY


def test_a_file_that_fits_comes_back_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = torch.from_numpy(pixels)[None].float() / 255
    assert torch.equal(read_image(tmp_path / "a.png", GRAY), expected)
    clear = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(read_image(tmp_path / "clear.png", GRAY), torch.ones(GRAY))


def test_what_is_no_image_is_said(tmp_path):
    (tmp_path / "text.png").write_text("text")
    whole = tmp_path / "whole.png"
    Image.effect_noise((99, 99), 50).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2_000])
    for name in ("text.png", "cut.png", "gone.png"):
        with pytest.raises(ValueError, match=f"{name} is no image"):
            read_image(tmp_path / name, GRAY)
    with pytest.raises(ValueError, match="text.png is no image"):
        load_gallery(GRAY, tmp_path / "x.ckpt", tmp_path)[1]
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_gallery(GRAY, tmp_path / "x.ckpt", tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images"):
        load_gallery(GRAY, tmp_path / "x.ckpt", tmp_path / "empty")
