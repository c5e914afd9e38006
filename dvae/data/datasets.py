"""The published data sets that torchvision downloads: one row of constants each."""

from pathlib import Path

from torchvision import datasets

from dvae.data.published import ColourImages, IdxFiles, PublishedImages, TorchvisionFiles

__all__ = ["CIFAR10", "CIFAR100", "KMNIST", "SVHN", "FashionMNIST"]


class FashionMNIST(PublishedImages):
    """Articles of clothing, 60,000 and 10,000 grayscale images of 28 by 28 pixels.

    Also looked for in the folder of Debian's package `dataset-fashion-mnist`.

    References:
        Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747.
    """

    name = "Fashion-MNIST"
    image_shape = (1, 28, 28)
    num_classes = 10
    files = IdxFiles(
        datasets.FashionMNIST,
        "run `apt-get install dataset-fashion-mnist`, or put its four files "
        "(train-images-idx3-ubyte.gz and so on) into {folder}.",
        # Where that puts them, in Debian's releases.
        installed=(
            Path("/usr/share/datasets/fashion-mnist"),
            Path("/usr/share/dataset-fashion-mnist"),
        ),
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    )


class KMNIST(PublishedImages):
    """Handwritten hiragana, 60,000 and 10,000 grayscale images of 28 by 28 pixels.

    References:
        Clanuwat, Bober-Irizar, Kitamoto, Lamb, Yamamoto and Ha (2018), arXiv 1812.01718.
    """

    name = "KMNIST"
    image_shape = (1, 28, 28)
    num_classes = 10
    files = IdxFiles(
        datasets.KMNIST,
        "put the four files of http://codh.rois.ac.jp/kmnist "
        "(train-images-idx3-ubyte.gz and so on) into {folder}.",
    )


class CIFAR10(ColourImages):
    """Photographs of ten classes, 50,000 and 10,000 colour images of 32 by 32 pixels.

    References:
        Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """

    name = "CIFAR-10"
    image_shape = (3, 32, 32)
    num_classes = 10
    files = TorchvisionFiles(
        datasets.CIFAR10,
        "unpack cifar-10-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html "
        "into {root}, where it makes cifar-10-batches-py.",
    )


class CIFAR100(ColourImages):
    """Photographs of a hundred classes, 50,000 and 10,000 colour images of 32 by 32 pixels.

    References:
        Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """

    name = "CIFAR-100"
    image_shape = (3, 32, 32)
    num_classes = 100
    files = TorchvisionFiles(
        datasets.CIFAR100,
        "unpack cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html "
        "into {root}, where it makes cifar-100-python.",
    )


class SVHN(ColourImages):
    """Digits on houses, 73,257 and 26,032 colour images of 32 by 32 pixels.

    References:
        Netzer et al. (2011), Reading digits in natural images with unsupervised feature learning.
    """

    name = "SVHN"
    image_shape = (3, 32, 32)
    num_classes = 10
    files = TorchvisionFiles(
        datasets.SVHN,
        "put train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers "
        "into {folder}.",
    )
