"""What a visitor does: each step can be undone, and what cannot be done changes nothing."""

import struct
import zlib
from dataclasses import replace

import pytest
import torch
from PIL import Image

from dvae.data import MNIST
from dvae.explore import Explorer, Gallery, Snapshot
from dvae.explore.images import image_size, load_gallery, read_image
from dvae.explore.uploads import LONGEST, fitting_size
from tests.explore.conftest import CATEGORICAL, GRID, LEVELS, built

IMAGES = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def explorer_of(config, tmp_path):
    opens = load_gallery((1, 28, 28), tmp_path / "a.ckpt").open
    gallery = Gallery("two", 2, lambda number: (IMAGES[number], f"image {number}"), opens)
    return Explorer([Snapshot("a.ckpt", 0, {}, built(config))], gallery)


@pytest.fixture(params=[GRID, LEVELS], ids=["grid", "levels"])
def explorer(request, tmp_path):
    return explorer_of(request.param, tmp_path)


def picture(path, width, height):
    Image.effect_noise((width, height), 80).save(path)
    return path


def at(view, explorer, row, column):
    """Return the pixel in the middle of a place, in the picture of the code."""
    zoom = -(-1024 // max(view.image.shape[1:]))
    return (column + 0.5) * 4 * zoom, (row + 0.5) * 4 * zoom


def test_a_click_takes_up_a_code_and_another_paints_with_it(explorer):
    view = explorer.start()
    code = explorer.changed(view)
    view = explorer.click(view, *at(view, explorer, 2, 3))
    assert view.edits == {} and view.brush == int(code[2, 3].view(-1)[0])
    view = explorer.set_brush(view, (view.brush + 1) % 6)
    painted = explorer.click(view, *at(view, explorer, 5, 5), 3)
    after = explorer.changed(painted).view(7, 7, -1)
    assert (after[4:7, 4:7, 0] == view.brush).all()
    assert torch.equal(after[:4], code.view(7, 7, -1)[:4])
    assert explorer.undo(painted).edits == {}
    with pytest.raises(ValueError, match="no change to undo"):
        explorer.undo(explorer.undo(painted))
    with pytest.raises(ValueError, match=r"the brush must be in \[0, 6\); got 6"):
        explorer.set_brush(view, 6)


def test_changes_are_undone_one_by_one_the_undoing_of_all_among_them(explorer):
    start = explorer.start()
    there = explorer.look(start).code.view(-1)[0]
    one = explorer.set_category(start, (int(there) + 1) % 6)
    two = explorer.set_category(one, (int(there) + 2) % 6)
    none = explorer.take_back(two)
    assert none.edits == {}
    for expected in (two, one, start):
        none = explorer.undo(none)
        assert none.edits == expected.edits
    assert explorer.set_category(one, (int(there) + 1) % 6).before == one.before


def test_an_alternative_is_put_where_it_was_shown(explorer):
    view = explorer.pick_position(explorer.start(), 10)
    found = explorer.alternatives(view)
    changed = explorer.put_alternative(view, 3)
    assert changed.edits == {10: found.categories[3]} and changed.brush == found.categories[3]
    torch.testing.assert_close(explorer.look(changed).decoded, found.images[3])


def test_from_one_image_to_a_kept_one_and_a_step_of_it_are_changes(explorer):
    start = explorer.start()
    with pytest.raises(ValueError, match="keep an image first"):
        explorer.between(start)
    view = explorer.pick_image(explorer.keep(start), 1)
    frames = explorer.between(view)
    for n, image in ((0, IMAGES[1]), (8, IMAGES[0])):
        reconstruction = explorer.model(view).reconstruct(image[None])[0]
        torch.testing.assert_close(frames[n], reconstruction)
    taken = explorer.pick_step(view, 5)
    torch.testing.assert_close(explorer.look(taken).decoded, frames[5])
    assert explorer.undo(taken).edits == {}


def test_an_upload_keeps_its_size_but_for_what_is_no_whole_place(explorer, tmp_path):
    start = explorer.start()
    path = picture(tmp_path / "a.png", 56, 40)
    view = explorer.upload(start, path)
    assert torch.equal(view.image, read_image(path, (1, 40, 56)))
    assert view.title == "uploaded a.png, 56 x 40 pixels"
    assert explorer.look(view).decoded.shape == (1, 40, 56)
    cut = explorer.upload(view, picture(tmp_path / "b.png", 59, 42))
    assert cut.title == "uploaded b.png, 59 x 42 pixels, scaled and cut to 56 x 40"
    small = explorer.set_own_size(view, False)
    assert torch.equal(small.image, read_image(path, (1, 28, 28)))
    assert "scaled and cut to 28 x 28" in small.title
    large = explorer.upload(start, picture(tmp_path / "c.png", 900, 300))
    assert large.image.shape == (1, 128, LONGEST)
    # A place beyond the next image's border is not kept.
    far = explorer.pick_position(large, explorer.changed(large).numel() - 1)
    assert explorer.pick_image(far, 0).position == 0
    with pytest.raises(ValueError, match="draws codes of 7x7.* and this image has 10x14"):
        explorer.redraw(view, 3)
    with pytest.raises(ValueError, match="both codes must have one shape"):
        explorer.between(replace(view, kept=explorer.changed(start)))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("no image"), "bad.png is no image that can be read: not an"),
        (lambda path: picture(path, 1, 1), "bad.png: .* at least 4 x 4 pixels; got 1 x 1"),
        (lambda path: picture(path, 4000, 20), "at least 4 x 4 pixels; got 4000 x 20 that would"),
        (lambda path: path.write_bytes(huge()), "bad.png is no image that can be read: .*exceeds"),
    ],
    ids=["text", "pixel", "thread", "huge"],
)
def test_a_bad_upload_is_said_in_one_line(explorer, tmp_path, write, message):
    write(tmp_path / "bad.png")
    with pytest.raises(ValueError, match=message) as error:
        explorer.upload(explorer.start(), tmp_path / "bad.png")
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def huge():
    """Return the beginning of an image that would fill the memory."""
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def test_latents_have_uploads_of_the_models_size(tmp_path):
    explorer = explorer_of(CATEGORICAL, tmp_path)
    assert not explorer.grid
    view = explorer.upload(explorer.start(), picture(tmp_path / "a.png", 56, 40))
    assert view.image.shape == (1, 28, 28) and "scaled and cut to 28 x 28" in view.title


def test_a_size_is_shrunk_and_cut_to_whole_places():
    assert fitting_size((256, 384), 4, 384) == (256, 384)
    assert fitting_size((3000, 4000), 8, 384) == (288, 384)
    assert fitting_size((31, 33), 4, 384) == (28, 32)


def test_a_turned_photograph_has_its_upright_size(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    image.save(tmp_path / "b.jpg")
    assert image_size(tmp_path / "a.jpg") == (40, 20)
    assert image_size(tmp_path / "b.jpg") == (20, 40)


def test_classes_have_their_names(tmp_path):
    gallery = load_gallery((1, 28, 28), tmp_path / "a.ckpt")
    assert gallery.label(3) == str(int(MNIST().rows("test").images.labels[3]))
    assert gallery.class_names is None
    for name in ("cat", "dog"):
        for number in range(20):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28)).save(path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(
        "data: {class_path: dvae.data.ImageFolder, init_args: {data_dir: "
        f"{tmp_path / 'photos'}, image_size: 28}}}}"
    )
    gallery = load_gallery((3, 28, 28), run / "checkpoints" / "a.ckpt")
    assert gallery.class_names == ["cat", "dog"]
    assert {gallery.label(number) for number in range(gallery.size)} == {"cat", "dog"}
