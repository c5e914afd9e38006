"""CIFAR-100, from a folder or from a download."""

from pathlib import Path

from torchvision import datasets

from dvae.data.base import ImageDataModule
from dvae.data.cifar import cifar_root, load_cifar
from dvae.data.images import Images, Split

__all__ = ["CIFAR100"]

_FOLDER = "cifar-100-python"


class CIFAR100(ImageDataModule):
    """Photographs of a hundred classes, 50,000 and 10,000 colour images of 32 by 32 pixels.

    Looks for the folder `cifar-100-python` in `data_dir` and in the cache folder (`$DVAE_DATA`,
    else `~/.cache/dvae`); if it is in neither, torchvision downloads it into `data_dir`, or into
    the cache folder where none is given. torchvision checks the checksums at every load.

    The pixels stay real-valued: the protocols of binarisation are for grayscale images.

    Args:
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; 0 trains on
            all of them and does not validate.
        seed: Order of the training images. No part in what is evaluated.
        data_dir: Folder that has, or is to have, `cifar-100-python`.

    Raises:
        ValueError: If a value is out of range.

    References:
        Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """

    name = "CIFAR-100"
    image_shape = (3, 32, 32)
    num_classes = 100

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
        self._root()

    def load(self, split: Split) -> Images:
        """Read one split from its pickled arrays.

        Args:
            split: `train` or `test`.

        Returns:
            50,000 or 10,000 images of shape (3, 32, 32) with their classes.

        Raises:
            FileNotFoundError: If the files are nowhere and cannot be downloaded.
            ValueError: If a file is missing from the folder or damaged.
        """
        images, self.class_names = load_cifar(datasets.CIFAR100, self._root(), _FOLDER, split)
        return images

    def _root(self) -> Path:
        return cifar_root(datasets.CIFAR100, _FOLDER, "cifar-100-python.tar.gz", self.data_dir)
