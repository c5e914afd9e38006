"""Street view house numbers, from a folder or from a download."""

from pathlib import Path

import torch
from torchvision import datasets

from dvae.data.base import ImageDataModule
from dvae.data.download import download, download_root
from dvae.data.images import Images, Split

__all__ = ["SVHN"]

_FOLDER = "svhn"


class SVHN(ImageDataModule):
    """Digits on houses, 73,257 and 26,032 colour images of 32 by 32 pixels.

    Looks for the folder `svhn`, with `train_32x32.mat` and `test_32x32.mat`, in `data_dir` and in
    the cache folder (`$DVAE_DATA`, else `~/.cache/dvae`); if it is in neither, torchvision
    downloads it into `data_dir`, or into the cache folder where none is given, and checks the
    checksums at every load.

    Args:
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; 0 trains on
            all of them and does not validate.
        seed: Order of the training images. No part in what is evaluated.
        data_dir: Folder that has, or is to have, `svhn`.

    Raises:
        ValueError: If a value is out of range.

    References:
        Netzer et al. (2011), Reading digits in natural images with unsupervised feature learning.
    """

    name = "SVHN"
    image_shape = (3, 32, 32)
    num_classes = 10

    def __init__(
        self,
        batch_size: int = 200,
        val_size: int = 5000,
        seed: int = 0,
        data_dir: str | None = None,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__(batch_size=batch_size, val_size=val_size, seed=seed, data_dir=data_dir)

    def prepare_data(self) -> None:
        """Download the files if they are nowhere; Lightning calls this on one process."""
        self._folder()

    def load(self, split: Split) -> Images:
        """Read one split from its MATLAB file.

        Args:
            split: `train` or `test`.

        Returns:
            73,257 or 26,032 images of shape (3, 32, 32) with their digits.

        Raises:
            FileNotFoundError: If the files are nowhere and cannot be downloaded.
            ValueError: If a file is missing from the folder or damaged.
        """
        folder = self._folder()
        try:
            files = datasets.SVHN(root=folder, split=split, download=False)
        except RuntimeError:
            raise ValueError(
                f"{folder} is incomplete or damaged: delete it to have it downloaded anew, or "
                "replace it by a fresh copy."
            ) from None
        images = torch.from_numpy(files.data).contiguous()
        return Images(images=images, labels=torch.as_tensor(files.labels, dtype=torch.int64))

    def _folder(self) -> Path:
        given, cache = download_root(self.data_dir), download_root(None)
        for root in (given, cache):
            if (root / _FOLDER).is_dir():
                return root / _FOLDER
        advice = (
            "put train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers "
            f"into {given / _FOLDER}."
        )
        download(_both_splits, given, _FOLDER, advice)
        return given / _FOLDER


def _both_splits(root: str, train: bool, download: bool) -> None:
    for split in ("train", "test"):
        datasets.SVHN(root=Path(root) / _FOLDER, split=split, download=download)
