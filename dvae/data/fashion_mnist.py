"""Fashion-MNIST, from a folder, from Debian's package or from a download."""

from pathlib import Path

from torchvision import datasets

from dvae.data.base import ImageDataModule
from dvae.data.download import download, download_root
from dvae.data.images import Images, Split
from dvae.data.mnist_layout import find_layout, layout_folders, load_layout

__all__ = ["FashionMNIST"]

# Where `apt-get install dataset-fashion-mnist` puts the files, in its releases.
_DEBIAN = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))

_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


class FashionMNIST(ImageDataModule):
    """Articles of clothing, 60,000 and 10,000 grayscale images of 28 by 28 pixels.

    Looks for the four IDX files (gzipped or plain) in `data_dir` and its `FashionMNIST/raw`, in the
    folder of Debian's package `dataset-fashion-mnist`, and in the cache folder (`$DVAE_DATA`, else
    `~/.cache/dvae`); if they are nowhere, torchvision downloads them into `data_dir`, or into the
    cache folder where none is given. The content is checked against its checksum.

    References:
        Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747.
    """

    name = "Fashion-MNIST"
    image_shape = (1, 28, 28)
    num_classes = 10
    class_names = tuple(datasets.FashionMNIST.classes)

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
        return load_layout(self._folder(), split, _MD5)

    def _folder(self) -> Path:
        given, cache = download_root(self.data_dir), download_root(None)
        given_folders, cache_folders = (
            layout_folders(root, "FashionMNIST") for root in (given, cache)
        )
        found = find_layout((*given_folders, *_DEBIAN, *cache_folders))
        if found is not None:
            return found
        folder = given_folders[1]
        advice = (
            "run `apt-get install dataset-fashion-mnist`, or put its four files "
            f"(train-images-idx3-ubyte.gz and so on) into {folder}."
        )
        download(datasets.FashionMNIST, given, "FashionMNIST", advice)
        return folder
