"""Data sets as Lightning data modules, resident on the device that trains."""

from typing import TYPE_CHECKING

from dvae.data.base import ImageDataModule as ImageDataModule
from dvae.data.batch import Batch as Batch
from dvae.data.binarize import Binarization as Binarization
from dvae.data.events import EventDataModule as EventDataModule
from dvae.data.idx import read_idx as read_idx
from dvae.data.images import Images as Images
from dvae.data.images import Part as Part
from dvae.data.images import Rows as Rows
from dvae.data.images import Split as Split
from dvae.data.loading import ResidentLoader as ResidentLoader
from dvae.data.reading import Pixels as Pixels
from dvae.data.tokens import Token as Token
from dvae.data.tokens import Tokens as Tokens
from dvae.names import gather

DATA_SETS: dict[str, type[ImageDataModule]] = gather(__name__, ImageDataModule)
if TYPE_CHECKING:  # what a type checker knows; a new file works without a line here
    from dvae.data.any_dataset import *
    from dvae.data.arrays import *
    from dvae.data.datasets import *
    from dvae.data.image_folder import *
    from dvae.data.mnist import *
    from dvae.data.motifs import *
    from dvae.data.table import *
    from dvae.data.text import *
    from dvae.data.token_data import *
else:
    globals().update(DATA_SETS)
    __all__ = [
        "Batch",
        "Binarization",
        "EventDataModule",
        "ImageDataModule",
        "Images",
        "Part",
        "Pixels",
        "ResidentLoader",
        "Rows",
        "Split",
        "Token",
        "Tokens",
        "read_idx",
        *DATA_SETS,
    ]
