"""The files of a data set that torchvision knows: found, or downloaded as a whole, and read."""

import inspect
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import torch

from dvae.data.base import ImageDataModule
from dvae.data.idx import has_idx, idx_folders, load_idx
from dvae.data.images import Images, Split
from dvae.runs.files import whole_files

__all__ = ["ColourImages", "IdxFiles", "PublishedImages", "TorchvisionFiles"]


@dataclass(frozen=True)
class TorchvisionFiles:
    """The files of a data set that torchvision reads, and checks, by itself.

    Args:
        dataset: Class in `torchvision.datasets`, whose `data` are all its images.
        advice: What to do without a network, with `{root}` for the folder in which all data sets
            are and `{folder}` for the one of this data set.
        installed: Folders where packages of an operating system put the files.
    """

    dataset: Callable[..., Any]
    advice: str
    installed: Sequence[Path] = ()

    @property
    def folder(self) -> str:
        """Name of the folder that the data set has in a root."""
        return getattr(self.dataset, "base_folder", self.dataset.__name__.lower())

    def find(self, data_dir: str | None) -> Path:
        """Find the folder with the files, and download them if they are nowhere.

        Args:
            data_dir: Where the user has, or wants, the files; the cache folder by default.

        Raises:
            FileNotFoundError: If the files are nowhere and cannot be downloaded.
        """
        given, cache = _root(data_dir), _root(None)
        for place in (*self.places(given), *self.installed, *self.places(cache)):
            if self.is_complete(place):
                return place
        folder = self.places(given)[-1]
        _download(self._fetch, given, self.folder, self.advice.format(root=given, folder=folder))
        return folder

    def places(self, root: Path) -> Sequence[Path]:
        """List where the files may lie below a root; a download puts them into the last one."""
        return (root / self.folder,)

    def is_complete(self, place: Path) -> bool:
        """Whether the files are in a place; what is damaged there, reading finds."""
        return place.is_dir()

    def read(self, folder: Path, split: Split) -> tuple[Images, Sequence[str] | None]:
        """Read one split.

        Args:
            folder: What `find` has found.
            split: `train` or `test`.

        Returns:
            The images with their classes, and the names of these where torchvision knows them.

        Raises:
            ValueError: If a file is missing or damaged.
        """
        try:
            files = self._open(folder.parent, split)
        except (RuntimeError, OSError):
            raise ValueError(
                f"{folder} is incomplete or damaged: delete it to have it downloaded anew, or "
                "replace it by a fresh copy."
            ) from None
        images = torch.as_tensor(files.data)
        if images.dim() == 3:
            images = images.unsqueeze(1)
        elif images.shape[1] not in (1, 3):  # (N, H, W, C)
            images = images.permute(0, 3, 1, 2)
        labels = files.targets if hasattr(files, "targets") else files.labels
        labels = torch.as_tensor(labels, dtype=torch.int64)
        return Images(images.contiguous(), labels), getattr(files, "classes", None)

    def _open(self, root: Path, split: Split, download: bool = False) -> Any:
        # Some make a folder of their own, and the others get one.
        inside = root if hasattr(self.dataset, "base_folder") else root / self.folder
        by_flag = "train" in inspect.signature(self.dataset).parameters
        which = {"train": split == "train"} if by_flag else {"split": split}
        return self.dataset(root=inside, download=download, **which)

    def _fetch(self, root: Path) -> None:
        # Some download one split at a time.
        self._open(root, "train", download=True)
        self._open(root, "test", download=True)


@dataclass(frozen=True)
class IdxFiles(TorchvisionFiles):
    """Four IDX files, gzipped or plain, as those of MNIST; torchvision downloads them only.

    Args:
        dataset: Class in `torchvision.datasets`.
        advice: What to do without a network, as in `TorchvisionFiles`.
        installed: Folders where packages of an operating system put the files.
        md5: MD5 of the unzipped content by file name without `.gz`; not checked if None.
    """

    md5: Mapping[str, str] | None = None

    @property
    def folder(self) -> str:
        """Name of the folder that torchvision makes in a root."""
        return self.dataset.__name__

    def places(self, root: Path) -> Sequence[Path]:
        """List the root itself, and the folder that torchvision puts them into."""
        return idx_folders(root, self.folder)

    def is_complete(self, place: Path) -> bool:
        """Whether all four files are there."""
        return has_idx(place)

    def read(self, folder: Path, split: Split) -> tuple[Images, Sequence[str] | None]:
        """Read the images and labels of one split.

        Args:
            folder: What `find` has found.
            split: `train` or `test`.

        Raises:
            ValueError: If a file is damaged, or is not what its name says.
        """
        return load_idx(folder, split, self.md5), getattr(self.dataset, "classes", None)

    def _fetch(self, root: Path) -> None:
        self.dataset(root=root, train=True, download=True)


class PublishedImages(ImageDataModule):
    """A data set that is looked for on this machine, and downloaded where it is not there.

    It is looked for in `data_dir` and in the cache folder (`$DVAE_DATA`, else `~/.cache/dvae`). If
    it is in neither, torchvision downloads it into `data_dir`, or into the cache folder where none
    is given.
    """

    files: ClassVar[TorchvisionFiles]
    """Where the files are looked for and how they are read."""

    def prepare_data(self) -> None:
        """Download the files if they are nowhere; Lightning calls this on one process."""
        self.files.find(self.data_dir)

    def load(self, split: Split) -> Images:
        """Read one split.

        Args:
            split: `train` or `test`.

        Returns:
            Its images with their classes.

        Raises:
            FileNotFoundError: If the files are nowhere and cannot be downloaded.
            ValueError: If a file is missing from the folder or damaged.
        """
        images, self.class_names = self.files.read(self.files.find(self.data_dir), split)
        return images


class ColourImages(PublishedImages):
    """One in colour: its pixels stay real-valued, since binarisation is for grayscale images.

    Args:
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; 0 trains on
            all of them and does not validate.
        seed: Order of the training images. No part in what is evaluated.
        data_dir: Folder that has, or is to have, the folder of the data set.
    """

    def __init__(
        self,
        batch_size: int = 200,
        val_size: int = 5000,
        seed: int = 0,
        data_dir: str | None = None,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed, data_dir=data_dir)


def _root(data_dir: str | None) -> Path:
    """Return the folder the user named, else the cache folder; touches no disk."""
    return Path(data_dir or os.environ.get("DVAE_DATA") or "~/.cache/dvae").expanduser()


def _download(fetch: Callable[[Path], None], root: Path, folder: str, advice: str) -> None:
    """Download a data set into `root / folder`, as a whole or not at all.

    A file under its final name is complete, and two processes that download at the same time do no
    harm.

    Args:
        fetch: Downloads it into the folder that it is given.
        root: Where to; made if need be.
        folder: What the data set makes in its root, and all that is kept of it.
        advice: What to do without a network: the rest of the error's sentence.

    Raises:
        FileNotFoundError: If the download fails, with the reason and the advice in one line.
    """
    existed = root.exists()
    try:
        with whole_files(root, only=folder) as staging:
            fetch(staging)
    except (OSError, RuntimeError, HTTPException, EOFError, zlib.error) as error:
        if not existed:
            with suppress(OSError):
                root.rmdir()
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{folder} is not on this machine and its download failed ({reason}): {advice}"
        ) from error
