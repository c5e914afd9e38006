"""The data module that every image data set is a small subclass of."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, NoReturn, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor

from dvae.data.batch import Batch, as_pixels
from dvae.data.binarize import Binarization, binarize_once, draw
from dvae.data.files import ImageFiles
from dvae.data.images import Images, Part, Rows, Split, check_images
from dvae.data.loading import Loader, make_loader
from dvae.data.seeding import seeded_generator

__all__ = ["ImageDataModule"]

log = logging.getLogger("dvae")


class ImageDataModule(pl.LightningDataModule, ABC):
    """Images with labels, held on the device, split and binarised by one protocol.

    A data set of one's own is a subclass with `name`, `image_shape`, `num_classes` and `load`.

    The validation images are the same for every `seed`; see `dvae.data.binarize` for the protocols.

    Args:
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; 0 trains on
            all of them and does not validate. Where a data set has validation images of its own,
            these are taken instead.
        binarization: `none`, `dynamic`, `fixed` or `threshold`.
        seed: Order of the training images. No part in what is evaluated.
        data_dir: Folder with the files; where None looks is for the subclass to say.

    Raises:
        ValueError: If a value is out of range.
    """

    name: str
    """What people call the data set; the name of the class where a subclass gives none."""

    eval_batch_size: ClassVar[int] = 500
    """Images in a batch of validation, test and prediction; no result depends on it."""

    labelled: bool = True
    """Whether the labels mean anything."""

    class_names: Sequence[str] | None = None
    """What people call the classes, in order, once they are loaded; None for numbers."""

    predict_split: Part = "test"
    """Which part prediction goes through."""

    def __init__(
        self,
        batch_size: int = 200,
        val_size: int | None = 5000,
        binarization: Binarization = "none",
        seed: int = 0,
        data_dir: str | None = None,
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if val_size is not None and val_size < 0:
            raise ValueError(f"val_size must be at least 0, got {val_size}.")
        if binarization not in get_args(Binarization):
            allowed = ", ".join(get_args(Binarization))
            raise ValueError(f"binarization must be one of {allowed}, got {binarization!r}.")
        self.name = self.name or type(self).__name__
        self.batch_size = batch_size
        self.val_size = val_size
        self.binarization = binarization
        self.seed = seed
        self.data_dir = data_dir
        self._train: Images | ImageFiles | None = None
        self._val: Images | ImageFiles | None = None
        self._test: Images | ImageFiles | None = None
        self._positions: dict[Part, Tensor] = {}
        self._own: frozenset[Part] = frozenset({"test"})
        self._order: Loader | None = None
        self._place: Mapping[str, int] | None = None
        # Not to the logger, and plain values only: a checkpoint must load without this class.
        self.save_hyperparameters(logger=False)
        for key in [key for key, value in self.hparams.items() if is_dataclass(value)]:
            self.hparams[key] = asdict(self.hparams[key])

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width, known before anything is loaded."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of classes."""

    @abstractmethod
    def load(self, split: Split) -> Images | ImageFiles:
        """Read one published split, in its published order.

        Args:
            split: `train` or `test`.

        Returns:
            All its images, on the CPU, or files to read them from where they are too large.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged.
        """

    def load_own_validation(self) -> Images | ImageFiles | None:
        """Read the validation split that the data set itself has.

        Returns:
            Its images; None where there is none, and validation images come out of `train`.
        """
        return None

    def validation_count(self, count: int) -> int:
        """Say how many images validation takes out of the training split.

        Args:
            count: Images in that split.
        """
        return self.val_size or 0

    @property
    def protocol(self) -> str:
        """The data set and how its pixels are treated, for people and for tables of results."""
        grayscale = self.image_shape[0] == 1
        treatment = {
            "none": "grayscale (real-valued Bernoulli targets)" if grayscale else "colour",
            "dynamic": "dynamic binarisation",
            "fixed": "fixed binarisation (every image drawn once)",
            "threshold": "binarised at a threshold (pixel > 127)",
        }[self.binarization]
        return f"{self.name}, {treatment}"

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        """Refuse what Lightning would do: build whatever class, from whatever files, it is told to.

        Args:
            args: Arguments of Lightning's method.
            kwargs: Keyword arguments of Lightning's method.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{cls.__name__} is not loaded from a checkpoint, which would choose its class and its "
            f"files: make it with your own settings, {cls.__name__}(...), and load the model only"
        )

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs, once.

        Args:
            stage: `fit` or `validate`, `test` or `predict`; None for everything.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, the images are not of `image_shape`, or `val_size`
                leaves nothing to train on.
        """
        if self._train is None and self._test is None:
            log.info("Data: %s.", self.protocol)
        if stage == "predict":
            stage = "test" if self.predict_split == "test" else "fit"
        if stage in (None, "fit", "validate") and self._train is None:
            self._split()
        if stage in (None, "test") and self._test is None:
            self._test = self._binarized_once(self._checked(self.load("test"), "test"), "test")

    def train_mean(self) -> Tensor:
        """Average the training images, for instance to start a decoder's bias from.

        Returns:
            Mean of every pixel over the training images, shape (C, H, W), float32 in [0, 1].

        Raises:
            TypeError: If the images stay in their files.
        """
        self.setup("fit")
        if not isinstance(self._train, Images):
            raise TypeError(f"{self.name} is not held in memory: its mean would read every file")
        return self._train.mean()

    def train_dataloader(self) -> Loader:
        """Make the loader of the training images, an endless shuffled stream.

        Returns:
            A shuffled loader; one in order where the trainer is asked to overfit some batches,
            which have to be the same ones every time.
        """
        self.setup("fit")
        # getattr: the trainer sets it where a type checker does not see it; no trainer has none.
        overfit = getattr(self.trainer, "overfit_batches", 0)
        loader = self._loader(self._train, self.batch_size, shuffle=not overfit)
        if self._place is not None:
            loader.load_state_dict(self._place)
        self._order, self._place = loader, None
        return loader

    def state_dict(self) -> dict[str, int]:
        """Report the place in the stream of training images, for the checkpoint.

        Lightning keeps that of the loader, but forgets it where a model asks for the length of the
        run before the checkpoint is restored.

        Returns:
            What the training loader reports; empty before there is one.
        """
        return {} if self._order is None else self._order.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go to a place in the stream, with the next training loader.

        Args:
            state_dict: What `state_dict` has reported.
        """
        self._place = state_dict or None

    def val_dataloader(self) -> Loader | list[Loader]:
        """Make the loader of the validation images, in order.

        Returns:
            The loader, or an empty list (Lightning's way to skip validation) if there are none.
        """
        if self.val_size == 0 or not self.count("val"):
            return []
        return self._loader(self._val, self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> Loader:
        """Make the loader of the test images, in order.

        Returns:
            The loader.
        """
        self.setup("test")
        return self._loader(self._test, self.eval_batch_size, shuffle=False)

    def predict_dataloader(self) -> Loader:
        """Make the loader of the images to encode: those of `predict_split`, in order.

        Returns:
            The loader.
        """
        images = self.rows(self.predict_split).images
        return self._loader(images, self.eval_batch_size, shuffle=False)

    def count(self, part: Part) -> int:
        """Count the images of a part.

        Args:
            part: `train`, `val` or `test`.

        Returns:
            How many; none of `val` where nothing is validated on.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged.
        """
        self.setup("test" if part == "test" else "fit")
        images = {"train": self._train, "val": self._val, "test": self._test}[part]
        assert images is not None
        return len(images.labels)

    def rows(self, part: Part) -> Rows:
        """Collect the images of a part as they are encoded.

        Args:
            part: `train`, `val` or `test`.

        Returns:
            Its images in the order of the data set.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If there is no such part, a file is damaged, or no image is in the part.
        """
        if part not in get_args(Part):
            raise ValueError(f"the split must be one of {', '.join(get_args(Part))}, got {part!r}.")
        self.setup("test" if part == "test" else "fit")
        if part == "val" and not self.count("val"):
            raise ValueError(f"{self.name} has no validation images: val_size is 0.")
        images = {"train": self._train, "val": self._val, "test": self._test}[part]
        assert images is not None
        own = part in self._own
        names = self.file_names(part if own else "train")
        if own:
            return Rows(images, torch.arange(len(images.labels)), names)
        index = self._positions[part]
        if part == "train" and self.binarization == "dynamic":
            # Kept in grey for training, which draws them anew at every visit.
            once = self._binarized_once(self._checked(self.load("train"), "train"), "train")
            images = once.select(index)
        return Rows(images, index, None if names is None else [names[i] for i in index.tolist()])

    def file_names(self, part: Part) -> list[str] | None:
        """Name the file of each image of a published split that has been loaded.

        Args:
            part: `train` or `test`, or `val` where the data set itself has it.

        Returns:
            The names in the order of the images, or None where images have no files of their own.
        """
        return None

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Leave a batch where it is if that is the right place.

        Args:
            batch: A batch of a resident loader, or any other.
            device: Where it should be.
            dataloader_idx: Which loader it comes from; unused.

        Returns:
            The batch on `device`.
        """
        # Always so with a resident loader; Lightning's own walk over the batch takes as long as
        # cutting it did.
        if isinstance(batch, Batch) and batch.image.device == device:
            return batch
        moved: Batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn stored pixels into what a model sees.

        Args:
            batch: Images uint8 in 0..255; floating-point images are left as they are.
            dataloader_idx: Which loader the batch comes from; unused.

        Returns:
            Images float32 in [0, 1]; drawn from the device's global generator in {0, 1} when
            training under `dynamic`.
        """
        image, label = batch
        if image.dtype != torch.uint8:
            return batch
        if self.binarization == "dynamic" and self.trainer is not None and self.trainer.training:
            image = draw(image)
        return Batch(as_pixels(image), label)

    def _checked(self, loaded: Images | ImageFiles, part: Part) -> Images | ImageFiles:
        if isinstance(loaded, Images):
            check_images(loaded, f"{self.name} ({part})", self.image_shape)
        return loaded

    def _binarized_once(self, loaded: Images | ImageFiles, part: Part) -> Images | ImageFiles:
        if isinstance(loaded, ImageFiles):
            return loaded
        return Images(binarize_once(loaded.images, self.binarization, part), loaded.labels)

    def _split(self) -> None:
        loaded = self._checked(self.load("train"), "train")
        own = None if self.val_size == 0 else self.load_own_validation()
        count = len(loaded.labels)
        held_out = self.validation_count(count) if own is None else 0
        if held_out >= count:
            raise ValueError(
                f"val_size must be below the {count} training images of {self.name}, "
                f"got {held_out}."
            )
        # Not seeded by `seed`: runs that differ in it are to be compared on the same images.
        order = torch.randperm(count, generator=seeded_generator("validation split"))
        val_index, train_index = order[:held_out].sort()[0], order[held_out:].sort()[0]
        # Drawn before the split, so that an image's pixels do not depend on val_size.
        once = self._binarized_once(loaded, "train")
        self._train = (loaded if self.binarization == "dynamic" else once).select(train_index)
        self._positions = {"train": train_index, "val": val_index}
        if own is None:
            self._val = once.select(val_index)
        else:
            self._val = self._binarized_once(self._checked(own, "val"), "val")
            self._own |= {"val"}

    def _loader(
        self, images: Images | ImageFiles | None, batch_size: int, *, shuffle: bool
    ) -> Loader:
        assert images is not None  # setup() has run
        return make_loader(
            images, batch_size, shuffle=shuffle, seed=self.seed, trainer=self.trainer
        )
