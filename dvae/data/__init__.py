"""Image data sets as Lightning data modules, resident on the device that trains."""

from dvae.data.base import ImageDataModule
from dvae.data.batch import Batch
from dvae.data.binarize import Binarization
from dvae.data.cifar10 import CIFAR10
from dvae.data.cifar100 import CIFAR100
from dvae.data.fashion_mnist import FashionMNIST
from dvae.data.idx import read_idx
from dvae.data.image_folder import ImageFolder
from dvae.data.images import Images, Part, Rows, Split
from dvae.data.kmnist import KMNIST
from dvae.data.mnist import MNIST
from dvae.data.reading import Pixels
from dvae.data.resident import ResidentLoader
from dvae.data.svhn import SVHN
from dvae.data.tokens import Token, Tokens

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "KMNIST",
    "MNIST",
    "SVHN",
    "Batch",
    "Binarization",
    "FashionMNIST",
    "ImageDataModule",
    "ImageFolder",
    "Images",
    "Part",
    "Pixels",
    "ResidentLoader",
    "Rows",
    "Split",
    "Token",
    "Tokens",
    "read_idx",
]
