"""Which images a folder has: all that a person would count, each in one split, the rest said."""

import itertools
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dvae.data import ImageFolder
from dvae.data.folder_layout import NO_CLASS, find_images

TRAIN = ("train", "training", "Train", "TRAIN", "train2017", "train_images", "trainset")
VAL = ("val", "valid", "validation", "Dev", "val2017", "validation-set", "images_val")
TEST = ("test", "testing", "Test Set", "test2017", "eval")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def many(root, folder, count=4):
    touch(root, *(f"{folder}/{number}.jpg" for number in range(count)))


def names(found, part):
    return [path.relative_to(found.folder).as_posix() for path in found.paths[part]]


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize(("val", "test"), [*itertools.zip_longest(VAL, TEST)])
def test_splits_are_known_by_the_names_people_give_them(train, val, test, tmp_path):
    parts = {"train": train, "val": val, "test": test}
    for folder in filter(None, parts.values()):
        many(tmp_path, f"{folder}/a")
        many(tmp_path, f"{folder}/b", 1)
    found = find_images(tmp_path)
    assert found.class_names == ["a", "b"]
    for part, folder in parts.items():
        if folder is None:  # without a test split the validation images are tested
            assert found.paths["test"] == found.paths["val"]
            continue
        inside = ["a/0", "a/1", "a/2", "a/3", "b/0"]
        assert names(found, part) == [f"{folder}/{name}.jpg" for name in inside]
        assert found.labels(part, found.paths[part]) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("wrapper", ["", "data/", "data/images/"])
def test_splits_are_found_in_a_folder_that_is_alone(wrapper, tmp_path):
    many(tmp_path, f"{wrapper}train")
    many(tmp_path, f"{wrapper}val", 2)
    touch(tmp_path, "labels/train/0.txt", "README.md")
    found = find_images(tmp_path)
    assert [len(found.paths[part]) for part in ("train", "val", "test")] == [4, 2, 2]
    assert found.class_names == [] and "2 files of other kinds (.md, .txt)" in found.left_out


@pytest.mark.parametrize("path", [".", "..", "../images", "../images/"])
def test_a_folder_may_be_named_from_where_one_stands(path, tmp_path, monkeypatch):
    for folder in ("train/a", "train/b", "val/a"):
        many(tmp_path / "images", folder)
    monkeypatch.chdir(tmp_path / "images" / ("train" if path == ".." else ""))
    found = find_images(Path(path))
    assert found.class_names == ["a", "b"] and found.own == {"train", "val"}
    assert [len(found.paths[part]) for part in ("train", "val")] == [8, 4]


@pytest.mark.parametrize(
    "folders", [["train", "plane"], ["cats", "dogs"], ["val", "test"], ["trainers", "tests"], ["a"]]
)
def test_what_is_no_split_is_a_class(folders, tmp_path):
    for folder in folders:
        many(tmp_path, folder, 10)
    found = find_images(tmp_path)
    assert found.class_names == sorted(folders) and not found.own


def test_two_folders_for_one_split_are_refused(tmp_path):
    for folder in ("train", "val", "dev"):
        many(tmp_path, folder)
    with pytest.raises(ValueError, match=r"two folders for one split \(val\), dev and val"):
        find_images(tmp_path)


def test_what_lies_beside_splits_or_classes_is_told_apart_and_said(tmp_path):
    many(tmp_path, "train/a")
    many(tmp_path, "test/b", 2)
    touch(tmp_path, "train/loose.jpg", "masks/1.jpg", "preview.jpg")
    found = find_images(tmp_path)
    # A class that only the test has is one of its own, and so is none at all.
    assert found.class_names == ["a", "b", NO_CLASS]
    assert found.labels("train", found.paths["train"]) == [0, 0, 0, 0, 2]
    assert found.labels("test", found.paths["test"]) == [1, 1]
    assert found.left_out == "2 images beside the splits"


def test_hidden_things_are_left_out_and_counted(tmp_path):
    many(tmp_path, "a", 10)
    for folder in (".ipynb_checkpoints", "__MACOSX", "a/.git", "a/@eaDir"):
        many(tmp_path, folder)
    touch(tmp_path, "a/._0.jpg", "a/Thumbs.db", "b.txt", "notes", "c.TXT")
    found = find_images(tmp_path)
    assert len(found.files) == 10 and found.class_names == ["a"]
    assert found.left_out == (
        "1 hidden file, 4 hidden folders, 4 files of other kinds (.txt, .db, without a suffix)"
    )
    # What is hidden is so below the folder: the folder itself may lie anywhere.
    many(tmp_path, ".cache/images", 3)
    assert len(find_images(tmp_path / ".cache" / "images").files) == 3


def test_links_to_folders_are_followed_and_a_ring_of_them_ends(tmp_path):
    many(tmp_path, "store/a", 3)
    many(tmp_path, "images/b", 3)
    os.symlink(tmp_path / "store/a", tmp_path / "images/a")
    os.symlink(tmp_path / "store/a/0.jpg", tmp_path / "images/b/linked.jpg")
    os.symlink(tmp_path / "images", tmp_path / "images/b/ring")
    os.symlink(tmp_path / "images/b", tmp_path / "store/a/ring")
    os.symlink(tmp_path / "gone", tmp_path / "images/dangling")
    found = find_images(tmp_path / "images")
    assert found.class_names == ["a", "b"]
    # Through a/ring is b once more, and through that the folder itself, which is around it.
    once = [f"a/{n}.jpg" for n in range(3)] + [f"b/{n}.jpg" for n in range(3)] + ["b/linked.jpg"]
    assert set(once) <= {path.relative_to(found.folder).as_posix() for path in found.files}
    assert "2 links to a folder around it" in found.left_out
    assert "1 file of other kinds (without a suffix)" in found.left_out


def test_a_suffix_that_waits_for_its_plugin_is_said(tmp_path):
    many(tmp_path, "a", 3)
    touch(tmp_path, "a/IMG_1.HEIC", "a/IMG_2.HEIC")
    found = find_images(tmp_path)
    if len(found.files) == 3:
        assert found.left_out == "2 .heic (pip install pillow-heif has them read)"
    touch(tmp_path, "b/IMG_1.jxl")
    with pytest.raises(FileNotFoundError, match=r"no images .*; it has 1 .jxl \(pip install"):
        ImageFolder(str(tmp_path / "b")).load("train")


@pytest.mark.parametrize("count", [*range(2, 13), 40])
def test_few_images_are_split_too(count, tmp_path, caplog):
    for number in range(count):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    data = ImageFolder(str(tmp_path), image_size=4)
    data.setup()
    counts = [data.count(part) for part in ("train", "val", "test")]
    assert sum(counts) == count and counts[0] >= 1 and counts[2] == max(1, count // 10)
    assert counts[1] == (0 if count == 2 else -(-(count - counts[2]) // 10))
    assert bool(data.val_dataloader()) == bool(counts[1])
    parts = [data.rows(part) for part in ("train", "val", "test") if data.count(part)]
    assert sorted(n for part in parts for n in part.images.images[:, 0, 0, 0].tolist()) == list(
        range(count)
    )
    for part in parts:
        assert [int(name[:2]) for name in part.files] == part.images.images[:, 0, 0, 0].tolist()


def test_one_image_is_not_enough(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match="no images for the test split; it takes at"):
        ImageFolder(str(tmp_path), image_size=4).setup()


def test_own_validation_images_are_validated_on_and_nothing_else(tmp_path, caplog):
    for number in range(12):
        part = ("train", "train", "val")[number % 3]
        path = tmp_path / part / "ab"[number // 3 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    (tmp_path / "notes.txt").touch()
    caplog.set_level(logging.INFO, logger="dvae")
    for val_size in (None, 1, 0):
        data = ImageFolder(str(tmp_path), image_size=4, val_size=val_size)
        data.setup()
        assert data.count("train") == 8 and data.count("val") == (0 if val_size == 0 else 4)
        assert data.class_names == ["a", "b"]
        for part in ("train", "test") if val_size == 0 else ("train", "val", "test"):
            rows = data.rows(part)
            numbers = rows.images.images[:, 0, 0, 0].tolist()
            assert {number % 3 == 2 for number in numbers} == {part != "train"}
            folder = "train" if part == "train" else "val"
            expected = [f"{folder}/{'ab'[n // 3 % 2]}/{n}.png" for n in numbers]
            assert rows.files == expected and rows.index.tolist() == list(range(len(numbers)))
            assert rows.images.labels.tolist() == [n // 3 % 2 for n in numbers]
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count(f"Data: left out of {tmp_path}: 1 file of other kinds (.txt).") == 3
    tested = f"Data: {tmp_path} has no test split; its validation images are tested."
    assert lines.count(tested) == 3


PLACES = ("", "a/", "b/", ".x/", "train/", "train/a/", "val/", "test/b/", "__MACOSX/", "a/c/")
FILES = st.sets(st.tuples(st.sampled_from(PLACES), st.sampled_from(["1.jpg", "2.png", "3.txt"])))


@settings(max_examples=60, deadline=None)
@given(files=FILES)
def test_every_file_is_in_one_split_or_left_out(files, tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    touch(root, *(place + name for place, name in files))
    found = find_images(root)
    parts = [set(found.paths[part]) for part in found.paths if found.paths[part]]
    if found.paths.get("val") == found.paths["test"]:  # tested on for want of others
        parts.pop()
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(found.files)
    visible = {p + n for p, n in files if p[:1] not in "._" or not p}
    images = {name for name in visible if not name.endswith("txt")}
    assert {path.relative_to(root).as_posix() for path in found.files} <= images
    beside = len(images) - len(found.files)
    assert (f"{beside} image" in found.left_out) == (beside > 0)
    others = len(visible) - len(images)
    assert (f"{others} file" in found.left_out) == (others > 0)
