"""The folder of four IDX files in which MNIST and its descendants come."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from dvae.data.idx import read_idx
from dvae.data.images import Images, Split

__all__ = ["find_layout", "layout_folders", "load_layout"]

_FILES: Mapping[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def layout_folders(root: Path, name: str) -> tuple[Path, Path]:
    """List where the four files may lie under a folder.

    Args:
        root: The folder that somebody named.
        name: Name of the data set in torchvision.

    Returns:
        The folder itself, and the one that torchvision puts them in.
    """
    return root, root / name / "raw"


def find_layout(folders: Iterable[Path]) -> Path | None:
    """Find the first folder that has all four files, gzipped or plain.

    Args:
        folders: Where to look, in this order.

    Returns:
        The folder, or None if none has them all.
    """
    names = [name for pair in _FILES.values() for name in pair]
    for folder in folders:
        if all(_path(folder, name).is_file() for name in names):
            return folder
    return None


def load_layout(folder: Path, split: Split, md5: Mapping[str, str] | None = None) -> Images:
    """Read the images and labels of one split.

    Args:
        folder: Where the four files are.
        split: Which two of them to read.
        md5: MD5 of the unzipped content by file name without `.gz`; not checked if None.

    Returns:
        Images of shape (N, 1, H, W) and labels of shape (N,).

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or is not what its name says.
    """
    image_file, label_file = _FILES[split]
    images = read_idx(_path(folder, image_file), md5[image_file] if md5 else None)
    labels = read_idx(_path(folder, label_file), md5[label_file] if md5 else None)
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise ValueError(
            f"{folder}: {image_file} and {label_file} do not belong together (shapes "
            f"{tuple(images.shape)} and {tuple(labels.shape)}): replace both by fresh copies."
        )
    return Images(images=images.unsqueeze(1), labels=labels.long())


def _path(folder: Path, name: str) -> Path:
    # Where there is neither, the gzipped name is the one to complain about.
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
