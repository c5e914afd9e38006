"""What CIFAR-10 and CIFAR-100 share: one folder of pickled arrays, through torchvision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dvae.data.download import download, download_root
from dvae.data.images import Images, Split

__all__ = ["cifar_root", "load_cifar"]


def cifar_root(
    dataset: Callable[..., Any], folder: str, archive: str, data_dir: str | None
) -> Path:
    """Find the folder of the files, and download them if they are nowhere.

    Args:
        dataset: The class in `torchvision.datasets`.
        folder: Name of its folder.
        archive: Name of the archive that makes it.
        data_dir: Where the user has, or wants, the files; the cache folder by default.

    Returns:
        The folder that has `folder`.

    Raises:
        FileNotFoundError: If the files are nowhere and cannot be downloaded.
    """
    given, cache = download_root(data_dir), download_root(None)
    for root in (given, cache):
        if (root / folder).is_dir():
            return root
    advice = (
        f"unpack {archive} of https://www.cs.toronto.edu/~kriz/cifar.html "
        f"into {given}, where it makes {folder}."
    )
    download(dataset, given, folder, advice)
    return given


def load_cifar(
    dataset: Callable[..., Any], root: Path, folder: str, split: Split
) -> tuple[Images, list[str]]:
    """Read one split.

    Args:
        dataset: The class in `torchvision.datasets`, which checks the checksums.
        root: The folder that has `folder`.
        folder: Name of its folder.
        split: `train` or `test`.

    Returns:
        Images of shape (3, 32, 32) with their classes, and the names of these.

    Raises:
        ValueError: If a file is missing from the folder or damaged.
    """
    try:
        files = dataset(root=root, train=split == "train", download=False)
    except RuntimeError:
        raise ValueError(
            f"{root / folder} is incomplete or damaged: delete it to have it downloaded anew, "
            "or replace it by a fresh copy."
        ) from None
    # torchvision's array is a view, (N, H, W, C), of the file's own (N, C, H, W).
    images = torch.from_numpy(files.data).permute(0, 3, 1, 2).contiguous()
    return Images(images, torch.tensor(files.targets, dtype=torch.int64)), list(files.classes)
