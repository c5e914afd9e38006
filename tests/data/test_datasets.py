"""The published data sets: what they are, where they are looked for, and how a download fails."""

import bz2
import gzip
import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import scipy.io
import torch
from torch import Tensor
from torchvision import datasets

from dvae.data import CIFAR10, CIFAR100, KMNIST, MNIST, SVHN, FashionMNIST, ImageDataModule
from dvae.data import mnist as mnist_module
from dvae.data.published import PublishedImages, TorchvisionFiles

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache, no Debian package and no network."""
    monkeypatch.setenv("DVAE_DATA", str(tmp_path / "cache"))
    no_package = replace(FashionMNIST.files, installed=[tmp_path / "debian"])
    monkeypatch.setattr(FashionMNIST, "files", no_package)
    for name in ("FashionMNIST", "KMNIST", "CIFAR10", "SVHN"):
        monkeypatch.setattr(getattr(datasets, name), "download", no_network)


def no_network(dataset: datasets.VisionDataset) -> None:
    half = Path(dataset.root) / type(dataset).__name__ / "raw" / f"{NAMES[0]}.gz"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    raise URLError("no network\nin tests")


def write_idx(path: Path, array: Tensor) -> None:
    header = struct.pack(f">BBBB{array.dim()}I", 0, 0, 8, array.dim(), *array.shape)
    content = header + bytes(array.flatten().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_layout(folder: Path, suffix: str = ".gz") -> None:
    """Write a tiny data set of forty images and ten."""
    for count, images, labels in ((40, NAMES[0], NAMES[1]), (10, NAMES[2], NAMES[3])):
        pixels = (torch.arange(count).view(-1, 1, 1) * 3 + torch.arange(28)).expand(-1, 28, -1)
        write_idx(folder / f"{images}{suffix}", pixels.to(torch.uint8))
        write_idx(folder / f"{labels}{suffix}", torch.arange(count, dtype=torch.uint8) % 10)


def test_the_bundled_mnist_is_mnist() -> None:
    data = MNIST()
    data.setup()
    assert [len(data.train_dataloader()), len(data.test_dataloader())] == [275, 20]
    train, test = data.load("train"), data.load("test")
    assert train.images.shape == (60000, 1, 28, 28) and test.images.shape == (10000, 1, 28, 28)
    assert train.labels.dtype == torch.int64
    assert train.labels.bincount().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    weight = train.images.flatten().bincount(minlength=256).double() / train.images.numel()
    mean = (weight * torch.arange(256) / 255).sum()
    std = (weight * (torch.arange(256) / 255 - mean) ** 2).sum().sqrt()
    assert abs(mean - 0.1307) < 5e-5 and abs(std - 0.3081) < 5e-5
    assert abs(data.train_mean().mean() - 0.1307) < 1e-3


@pytest.mark.parametrize("layout", [".", "MNIST/raw"])
def test_mnist_from_a_folder_is_checked_as_well(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / layout
    shutil.copytree(mnist_module.BUNDLED, folder, dirs_exist_ok=True)
    data = MNIST(data_dir=str(tmp_path))
    assert len(data.load("test").images) == 10000
    content = bytearray(gzip.decompress((folder / f"{NAMES[3]}.gz").read_bytes()))
    content[-1] ^= 1
    (folder / f"{NAMES[3]}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is not the file it should"):
        data.load("test")


def test_mnist_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz is missing"):
        MNIST(data_dir=str(tmp_path)).setup("fit")


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize(
    ("dataset", "place"),
    [
        (FashionMNIST, "given"),
        (FashionMNIST, "given/FashionMNIST/raw"),
        (FashionMNIST, "debian"),
        (FashionMNIST, "cache/FashionMNIST/raw"),
        (KMNIST, "given"),
        (KMNIST, "given/KMNIST/raw"),
        (KMNIST, "cache"),
    ],
)
def test_every_place_is_looked_into(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: type[ImageDataModule],
    place: str,
    suffix: str,
) -> None:
    monkeypatch.setattr(FashionMNIST, "files", replace(FashionMNIST.files, md5=None))
    write_layout(tmp_path / place, suffix)
    data = dataset(batch_size=10, val_size=10, data_dir=str(tmp_path / "given"))
    data.prepare_data()
    data.setup()
    assert len(data.train_dataloader()) == 3
    (batch,) = data.test_dataloader()
    assert batch.image.shape == (10, 1, 28, 28) and batch.label.tolist() == list(range(10))
    assert batch.image[2, 0, 5, 7] == 2 * 3 + 7


def test_the_given_folder_comes_first(tmp_path: Path) -> None:
    for place in ("given", "debian", "cache"):
        write_layout(tmp_path / place)
    data = FashionMNIST(data_dir=str(tmp_path / "given"))
    # Not the real files, and so the complaint tells which ones were read.
    with pytest.raises(ValueError, match=r"given.*is not the file it should be"):
        data.setup("fit")


def test_images_and_labels_must_belong_together(tmp_path: Path) -> None:
    write_layout(tmp_path)
    write_idx(tmp_path / f"{NAMES[1]}.gz", torch.zeros(39, dtype=torch.uint8))
    with pytest.raises(ValueError, match="do not belong together"):
        KMNIST(data_dir=str(tmp_path)).load("train")


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [
        (FashionMNIST, "apt-get install dataset-fashion-mnist"),
        (KMNIST, "put the four files"),
        (CIFAR10, "unpack cifar-10-python.tar.gz"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_download_is_one_line_and_leaves_nothing(
    tmp_path: Path, dataset: type[ImageDataModule], advice: str, exists: bool
) -> None:
    cache = tmp_path / "cache"
    if exists:
        cache.mkdir()
    data = dataset()
    assert cache.exists() == exists, "making the module touches nothing"
    with pytest.raises(FileNotFoundError) as caught:
        data.prepare_data()
    message = str(caught.value)
    assert advice in message and "no network in tests" in message and str(cache) in message
    assert "\n" not in message
    assert cache.exists() == exists and not list(cache.rglob("*"))


def test_a_download_arrives_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(dataset: datasets.KMNIST) -> None:
        calls.append(dataset.root)
        write_layout(Path(dataset.raw_folder))
        write_layout(Path(dataset.raw_folder), "")

    monkeypatch.setattr(datasets.KMNIST, "download", download)
    kept = tmp_path / "given" / "KMNIST" / "raw" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    for _ in range(2):
        data = KMNIST(val_size=10, data_dir=str(tmp_path / "given"))
        data.prepare_data()
        data.setup()
    assert len(calls) == 1, "the second run finds what the first has downloaded"
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["KMNIST"]
    assert kept.read_text() == "mine"
    assert not (tmp_path / "cache").exists()


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Write twelve images in CIFAR-10's layout, and return them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    content = {"data": pixels.flatten(1).numpy(), "labels": list(range(12))}
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["train", None]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test", None]])
    meta = {"filename": "meta", "key": "label_names", "md5": None}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return pixels


@pytest.mark.parametrize("place", ["given", "cache"])
def test_cifar10_keeps_pixels_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pixels = write_cifar(tmp_path / place, monkeypatch)
    data = CIFAR10(val_size=0, data_dir=str(tmp_path / "given"))
    assert data.protocol == "CIFAR-10, colour"
    loaded = data.load("train")
    assert torch.equal(loaded.images, pixels) and loaded.images.is_contiguous()
    assert loaded.labels.tolist() == list(range(12)) and loaded.labels.dtype == torch.int64
    assert data.class_names == ["a", "b"]
    data.setup()


def test_a_damaged_cifar10_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test").unlink()
    with pytest.raises(ValueError, match="cifar-10-batches-py is incomplete or damaged"):
        CIFAR10(data_dir=str(tmp_path)).load("train")


def test_cifar100_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    content = {"data": pixels.flatten(1).numpy(), "fine_labels": list(range(12))}
    (folder / "train").write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a"]}))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": None}
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
    loaded = CIFAR100(val_size=0, data_dir=str(tmp_path)).load("train")
    assert torch.equal(loaded.images, pixels) and loaded.labels.tolist() == list(range(12))


def test_svhn_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "svhn").mkdir()
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([[1], [2], [10], [3], [10]], dtype=torch.uint8)  # 10 stands for 0
    content = {"X": pixels.permute(2, 3, 1, 0).numpy(), "y": labels.numpy()}
    scipy.io.savemat(tmp_path / "svhn" / "train_32x32.mat", content)
    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", "train_32x32.mat", None]})
    data = SVHN(val_size=1, data_dir=str(tmp_path))
    loaded = data.load("train")
    assert torch.equal(loaded.images, pixels) and loaded.labels.tolist() == [1, 2, 0, 3, 0]
    assert loaded.images.is_contiguous() and loaded.images.dtype == torch.uint8


@pytest.mark.parametrize(
    ("dataset", "advice"), [(CIFAR100, "cifar-100-python.tar.gz"), (SVHN, "train_32x32.mat")]
)
def test_without_a_network_there_is_advice(
    tmp_path: Path, dataset: type[ImageDataModule], advice: str
) -> None:
    with pytest.raises(FileNotFoundError, match=advice):
        dataset(data_dir=str(tmp_path)).prepare_data()
    assert not list(tmp_path.rglob("*.mat"))


class USPS(PublishedImages):
    """A row of one's own: a set in grey, of another shape, with files of another kind."""

    name = "USPS"
    image_shape = (1, 16, 16)
    num_classes = 10
    files = TorchvisionFiles(datasets.USPS, "put usps.bz2 and usps.t.bz2 into {folder}.")


def test_another_set_of_torchvision_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(url: str, root: str, filename: str, md5: str) -> None:
        Path(root).mkdir(exist_ok=True)
        rows = [[digit + 1, *(f"{i}:{digit / 10}" for i in range(256))] for digit in range(10)]
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        Path(root, filename).write_bytes(bz2.compress(text.encode()))

    monkeypatch.setattr("torchvision.datasets.usps.download_url", download)
    data = USPS(val_size=2, binarization="threshold", data_dir=str(tmp_path))
    data.prepare_data()
    assert {path.name for path in (tmp_path / "usps").iterdir()} == {"usps.bz2", "usps.t.bz2"}
    data.setup()
    assert data.count("train") == 8 and data.count("test") == 10
    test = data.load("test")
    assert test.images.shape == (10, 1, 16, 16) and test.labels.tolist() == list(range(10))
    assert data.class_names is None
    (tmp_path / "usps" / "usps.t.bz2").unlink()
    with pytest.raises(ValueError, match=r"usps is incomplete or damaged: delete it"):
        data.load("test")
