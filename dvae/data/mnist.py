"""MNIST, the whole of which comes with this package."""

from pathlib import Path

from dvae.data.base import ImageDataModule
from dvae.data.idx import has_idx, idx_folders, load_idx
from dvae.data.images import Images, Split

__all__ = ["BUNDLED", "MNIST"]

BUNDLED = Path(__file__).parent / "files" / "mnist"

_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class MNIST(ImageDataModule):
    """Handwritten digits, 60,000 and 10,000 grayscale images of 28 by 28 pixels.

    Reads the copy in this package, or the same four IDX files (gzipped or plain) from `data_dir`
    or its `MNIST/raw`. Either way the content is checked against its published checksum.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
        recognition. Licence and credit: `files/mnist/CREDIT.md` beside this module.
    """

    name = "MNIST"
    image_shape = (1, 28, 28)
    num_classes = 10

    def load(self, split: Split) -> Images:
        """Read one split from its two IDX files.

        Args:
            split: `train` or `test`.

        Returns:
            60,000 or 10,000 images of shape (1, 28, 28) with their digits.

        Raises:
            FileNotFoundError: If `data_dir` lacks a file.
            ValueError: If a file is damaged.
        """
        root = BUNDLED if self.data_dir is None else Path(self.data_dir).expanduser()
        return load_idx(next(filter(has_idx, idx_folders(root, "MNIST")), root), split, _MD5)
