"""The laws of the image folder: which files are which split, what becomes of them, what is said."""

import logging
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from dvae.data import Batch, ImageFolder, Pixels
from dvae.data.reading import look_at


def write(path, size=(12, 8), colour=(255, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png", colour=(number, 0, 0))
    return tmp_path / "photos"


def test_a_plain_folder_gives_every_tenth_file_to_the_test(folder):
    data = ImageFolder(str(folder), image_size=8, val_size=3)
    train, test = data.load("train"), data.load("test")
    assert len(train.images) == 18 and len(test.images) == 2
    assert data.image_shape == (3, 8, 8) and data.num_classes == 2
    red = torch.cat([train.images, test.images])[:, 0, 0, 0]
    assert sorted(red.tolist()) == list(range(20))
    assert torch.equal(train.images[:, 0, 0, 0] % 2, train.labels)
    data.setup()


def test_splits_of_its_own_are_kept(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            write(tmp_path / split / "x" / f"{number}.JPG")
    data = ImageFolder(str(tmp_path), image_size=8, val_size=1)
    assert [len(data.load(split).images) for split in ("train", "test")] == [4, 2]


def test_the_middle_of_the_longer_side_is_kept(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    for number in range(10):
        write(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    images = ImageFolder(str(tmp_path), image_size=10).load("train").images
    assert (images == 200).all()


def test_grey_and_transparent_images_become_colour(tmp_path):
    for number, mode in enumerate(("L", "RGBA", "P", "I;16")):
        Image.new(mode, (4, 4)).save(tmp_path / f"{number}.png")
    data = ImageFolder(str(tmp_path), image_size=4)
    images = torch.cat([data.load(split).images for split in ("train", "test")])
    assert images.shape == (4, 3, 4, 4)
    # Black, nothing at all on white paper, and black twice.
    assert images[:, 0, 0, 0].tolist() == [0, 255, 0, 0]


def test_unreadable_files_are_named_and_skipped_only_if_asked(folder, caplog):
    (folder / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.png \(not an image\): .*skip"):
        ImageFolder(str(folder), image_size=8).load("train")
    caplog.set_level(logging.INFO, logger="dvae")
    loaded = ImageFolder(str(folder), image_size=8, pixels=Pixels(skip_unreadable=True)).load(
        "train"
    )
    assert len(loaded.images) == len(loaded.labels) == 18
    assert "broken.png cannot be read" in caplog.text and "GiB" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_named_and_not_waited_for(folder):
    os.mkfifo(folder / "a" / "pipe.png")
    with pytest.raises(ValueError, match=r"cannot read .*pipe\.png \(no regular file\)"):
        ImageFolder(str(folder), image_size=8).load("train")
    assert look_at(folder / "a" / "pipe.png") == "no regular file"


def test_what_is_missing_or_too_large_is_said(tmp_path, folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ImageFolder(str(tmp_path / "nowhere")).load("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images for the train split"):
        ImageFolder(str(tmp_path / "empty")).load("train")
    with pytest.raises(ValueError, match="image_size must be an integer >= 1; got 0"):
        ImageFolder(str(folder), image_size=0)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: 100)


def test_what_memory_does_not_hold_is_read_by_workers(folder, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="dvae")
    options = {"image_size": 8, "val_size": 3, "batch_size": 4}
    resident = ImageFolder(str(folder), **options)
    resident.setup()
    assert "held in memory" in caplog.text
    monkeypatch.setattr("dvae.data.image_folder._free_memory", lambda: 100)
    read = ImageFolder(str(folder), **options)
    read.setup()
    assert "read by worker processes" in caplog.text
    pickle.dumps(read.load("train"))  # some platforms hand it to the workers so
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        ours, theirs = getattr(read, name)(), getattr(resident, name)()
        assert len(ours) == len(theirs)
        # Two epochs, with the global generator left alone.
        torch.manual_seed(0)
        pairs = [p for _ in range(2) for p in zip(ours, theirs, strict=True)]
        assert torch.equal(torch.rand(1), torch.manual_seed(0) and torch.rand(1))
        for a, b in pairs:
            assert torch.equal(a.image, b.image) and torch.equal(a.label, b.label)


def test_a_place_among_files_is_found_again(folder, little_memory):
    def stream(skipped):
        data = ImageFolder(str(folder), image_size=8, val_size=2, batch_size=3)
        loader = data.train_dataloader()
        loader.load_state_dict({"batches": skipped})
        batches = [batch.image for _ in range(2) for batch in loader]
        assert loader.state_dict() == {"batches": skipped + len(batches)}
        return batches

    whole, rest = stream(0), stream(3)
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], rest, strict=False))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_workers_at_work(
    folder, little_memory, monkeypatch, number
):
    monkeypatch.setattr("dvae.data.loading.os.sched_getaffinity", lambda _: {0, 1})
    loader = ImageFolder(str(folder), image_size=8, val_size=2, batch_size=1).train_dataloader()
    batches = iter(loader)
    next(batches), next(batches)  # one of each worker, so that both are up
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, number)
    assert 2 + len(list(batches)) == len(loader)


def test_broken_files_that_workers_read_are_named(folder, little_memory, caplog):
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "01.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*01\.png"):
        ImageFolder(str(folder), image_size=8, val_size=2).load("train")
    (folder / "b" / "01.png").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*00\.png"):
        list(ImageFolder(str(folder), image_size=8, val_size=2).train_dataloader())
    data = ImageFolder(str(folder), image_size=8, val_size=2, pixels=Pixels(skip_unreadable=True))
    assert len(data.load("train").paths) == 17 and "00.png cannot be read" in caplog.text
    assert len(list(data.train_dataloader())) == len(data.train_dataloader())


def test_the_mean_of_files_is_refused(folder, little_memory):
    with pytest.raises(TypeError, match="not held in memory"):
        ImageFolder(str(folder), image_size=8, val_size=2).train_mean()
        ImageFolder(str(folder)).load("train")


def test_only_training_images_are_mirrored(folder):
    class Stage:
        training = True

    data = ImageFolder(str(folder), image_size=8)
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256).expand(64, 3, 1, 256)
    batch = Batch(image, torch.zeros(64))
    data.trainer = Stage()
    torch.manual_seed(0)
    seen = data.on_after_batch_transfer(batch, 0).image[:, 0, 0, 0]
    assert set(seen.tolist()) == {0.0, 1.0} and 16 < seen.sum() < 48
    Stage.training = False
    assert (data.on_after_batch_transfer(batch, 0).image[:, 0, 0, 0] == 0).all()


def test_a_checkpoint_holds_plain_values(folder):
    black = {"background": "black", "bits": None, "skip_unreadable": False}
    for pixels, saved in ((None, None), (Pixels("black"), black)):
        data = ImageFolder(str(folder), image_size=8, pixels=pixels)
        assert data.hparams["pixels"] == saved and data.hparams["val_size"] is None


def read_one(tmp_path, name, image=None, **kwargs):
    path = tmp_path / "a folder with spaces und Ümläuten 图" / name
    path.parent.mkdir(exist_ok=True)
    image.save(path, **kwargs)
    return ImageFolder(str(path.parent), image_size=4).load("train").images[0]


GREY = (np.arange(16).reshape(4, 4) * 4369).astype(np.uint16)  # 0 to 65535


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_sixteen_bits_are_scaled_and_not_cut(name, tmp_path):
    seen = read_one(tmp_path, name, Image.fromarray(GREY))
    assert torch.equal(seen[0], torch.from_numpy((GREY // 257).astype(np.uint8)))
    assert torch.equal(seen[0], seen[2])


def test_palettes_cmyk_and_animations_are_read_right(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    seen = read_one(tmp_path, "p.png", palette, transparency=b"\xff\x80")
    # Half of it is the white paper below.
    assert seen[:, 0, 0].tolist() == [round(255 - (255 - c) * 0x80 / 255) for c in (10, 20, 30)]
    (tmp_path / "2").mkdir()
    seen = read_one(tmp_path / "2", "c.tif", Image.new("CMYK", (4, 4), (0, 255, 255, 0)))
    assert seen[:, 0, 0].tolist() == [255, 0, 0]
    (tmp_path / "3").mkdir()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("blue", "red", "green")]
    seen = read_one(tmp_path / "3", "g.gif", frames[0], save_all=True, append_images=frames[1:])
    assert seen[:, 0, 0].tolist() == [0, 0, 255]


def test_every_kind_of_broken_file_is_named_with_its_reason(folder, monkeypatch):
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "empty.jpg").write_bytes(b"")
    Image.new("F", (4, 4)).save(folder / "a" / "float.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    write(folder / "a" / "huge ü.png", size=(30, 30))
    with pytest.raises(ValueError) as caught:
        ImageFolder(str(folder), image_size=8).load("train")
    text = str(caught.value)
    assert "\n" not in text
    for name in ("cut.png (", "empty.jpg (not an image)", "float.tif (", "huge ü.png (Image size"):
        assert name in text, text


def test_a_folder_of_nothing_but_broken_files_is_said(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="none of the images"):
        ImageFolder(str(tmp_path), pixels=Pixels(skip_unreadable=True)).load("train")
