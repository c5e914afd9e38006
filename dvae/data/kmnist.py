"""Kuzushiji-MNIST, from a folder or from a download."""

from pathlib import Path

from torchvision import datasets

from dvae.data.base import ImageDataModule
from dvae.data.download import download, download_root
from dvae.data.images import Images, Split
from dvae.data.mnist_layout import find_layout, layout_folders, load_layout

__all__ = ["KMNIST"]


class KMNIST(ImageDataModule):
    """Handwritten hiragana, 60,000 and 10,000 grayscale images of 28 by 28 pixels.

    Looks for the four IDX files (gzipped or plain) in `data_dir` and its `KMNIST/raw`, and in the
    cache folder (`$DVAE_DATA`, else `~/.cache/dvae`); if they are nowhere, torchvision downloads
    them, and checks their checksums, into `data_dir`, or into the cache folder where none is given.

    References:
        Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto and Ha (2018), arXiv 1812.01718.
    """

    name = "KMNIST"
    image_shape = (1, 28, 28)
    num_classes = 10
    class_names = tuple(datasets.KMNIST.classes)

    def prepare_data(self) -> None:
        """Download the files if they are nowhere; Lightning calls this on one process."""
        self._folder()

    def load(self, split: Split) -> Images:
        """Read one split from its two IDX files.

        Args:
            split: `train` or `test`.

        Returns:
            60,000 or 10,000 images of shape (1, 28, 28) with their classes.

        Raises:
            FileNotFoundError: If the files are nowhere and cannot be downloaded.
            ValueError: If a file is damaged.
        """
        return load_layout(self._folder(), split)

    def _folder(self) -> Path:
        given, cache = download_root(self.data_dir), download_root(None)
        given_folders, cache_folders = (layout_folders(root, "KMNIST") for root in (given, cache))
        found = find_layout((*given_folders, *cache_folders))
        if found is not None:
            return found
        folder = given_folders[1]
        advice = (
            "put the four files of http://codh.rois.ac.jp/kmnist "
            f"(train-images-idx3-ubyte.gz and so on) into {folder}."
        )
        download(datasets.KMNIST, given, "KMNIST", advice)
        return folder
