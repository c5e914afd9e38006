"""The data module that every image data set is a small subclass of."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any, ClassVar, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dvae.data.batch import Batch, as_pixels
from dvae.data.binarize import Binarization, binarize_once, draw, treatment
from dvae.data.images import ImageFiles, Images, Part, Rows, Split, check_images, hold_out
from dvae.data.loading import Loader, make_loader
from dvae.runs.trust import CLASS_PATH
from dvae.scalars import check_choice, check_count

__all__ = ["ImageDataModule"]

log = logging.getLogger("dvae")


class ImageDataModule(pl.LightningDataModule, ABC):
    """Images with labels, held on the device, split and binarised by one protocol.

    A data set of one's own is a subclass with `name`, `image_shape`, `num_classes` and `load`.

    The validation images are the same for every `seed`; see `dvae.data.binarize` for the protocols.

    Args:
        batch_size: Training images in a batch of one process, at least 1.
        val_size: Images that validation takes out of the training split, at least 0; 0 trains on
            all of them and does not validate, None takes one in ten, at most 500. Where a data set
            has validation images of its own, these are taken instead.
        binarization: `none`, `dynamic`, `fixed` or `threshold`.
        seed: Order of the training images. No part in what is evaluated.
        data_dir: Folder with the files; where None looks is for the subclass to say.
        augment: What is done to each training image at every visit, in order, on the device:
            transforms of torchvision's v2, which take its bytes ``(C, H, W)`` and return as many.

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
        augment: Sequence[nn.Module] = (),
    ) -> None:
        """Check the values; nothing is read before `setup`."""
        super().__init__()
        check_count("batch_size", batch_size, 1)
        if val_size is not None:
            check_count("val_size", val_size, 0)
        check_choice("binarization", binarization, Binarization)
        self.name = self.name or type(self).__name__
        self.batch_size = batch_size
        self.val_size = val_size
        self.binarization = binarization
        self.seed = seed
        self.data_dir = data_dir
        self.augment = tuple(augment)
        self._parts: dict[Part, Rows] = {}
        # Not to the logger, and plain values only: a checkpoint must load without this class.
        self.save_hyperparameters(logger=False, ignore=["dataset", "test", "augment"])
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
        if self.val_size is not None:
            return self.val_size
        return min(500, -(-count // 10), count - 1)

    @property
    def protocol(self) -> str:
        """The data set and how its pixels are treated, for people and for tables of results."""
        return f"{self.name}, {treatment(self.binarization, self.image_shape[0] == 1)}"

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        """Refuse what Lightning would do: build whatever class, from whatever files, it is told to.

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
        if not self._parts:
            log.info("Data: %s.", self.protocol)
            if CLASS_PATH in self.hparams:  # of the command line, which keeps it for cards
                self.hparams["_name"] = self.name
        if stage == "predict":
            stage = "test" if self.predict_split == "test" else "fit"
        if stage in (None, "fit", "validate") and "train" not in self._parts:
            self._parts |= self._split()
        if stage in (None, "test") and "test" not in self._parts:
            self._parts["test"] = Rows.whole(self._once(self.load("test"), "test"))

    def train_mean(self) -> Tensor:
        """Average the training images, for instance to start a decoder's bias from.

        Returns:
            Mean of every pixel over the training images, shape (C, H, W), float32 in [0, 1].

        Raises:
            TypeError: If the images stay in their files.
        """
        images = self._part("train").images
        if not isinstance(images, Images):
            raise TypeError(f"{self.name} is not held in memory: its mean would read every file")
        return images.mean()

    def train_dataloader(self) -> Loader:
        """Make the loader of the training images, an endless shuffled stream.

        Or one in order where the trainer is to overfit some batches, the same ones every time.
        """
        # getattr: the trainer sets it where a type checker does not see it; no trainer has none.
        overfit = getattr(self.trainer, "overfit_batches", 0)
        return self._loader(self._part("train"), self.batch_size, shuffle=not overfit)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Make the loader of the validation images, in order; Lightning skips an empty list."""
        if self.val_size == 0 or not self.count("val"):
            return []
        return self._loader(self._part("val"), self.eval_batch_size)

    def test_dataloader(self) -> Loader:
        """Make the loader of the test images, in order."""
        return self._loader(self._part("test"), self.eval_batch_size)

    def predict_dataloader(self) -> Loader:
        """Make the loader of the images to encode: those of `predict_split`, in order."""
        return self._loader(self.rows(self.predict_split), self.eval_batch_size)

    def count(self, part: Part) -> int:
        """Count the images of a part.

        Args:
            part: `train`, `val` or `test`; there are none of `val` if nothing is validated on.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged.
        """
        return len(self._part(part).index)

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
        check_choice("the split", part, Part)
        rows = self._part(part)
        if part == "val" and not len(rows.index):
            raise ValueError(f"{self.name} has no validation images: val_size is 0.")
        if part == "train" and self.binarization == "dynamic":
            # Kept in grey for training, which draws them anew at every visit.
            return Rows(self._once(self.load("train"), "train").select(rows.index), rows.index)
        return rows

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Leave a batch where it is if it is on the device already."""
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
            dataloader_idx: Number of the loader; unused.

        Returns:
            Images float32 in [0, 1]; when training augmented by noise of torch's global generator,
            and under `dynamic` drawn in {0, 1} from the device's.
        """
        image, label = batch
        training = self.trainer is not None and self.trainer.training
        if training and self.augment:
            # One by one: a transform draws once for all that it is given together.
            image = torch.stack([self._augmented(x) for x in image])
        if image.dtype != torch.uint8:
            return batch if image is batch.image else Batch(image, label)
        if self.binarization == "dynamic" and training:
            image = draw(image)
        return Batch(as_pixels(image), label)

    def _augmented(self, image: Tensor) -> Tensor:
        found = image
        for transform in self.augment:
            found = transform(found)
        if found.shape != image.shape:
            raise ValueError(
                f"data.augment must leave images {tuple(image.shape)}; got {tuple(found.shape)}"
            )
        return found

    def _part(self, part: Part) -> Rows:
        self.setup("test" if part == "test" else "fit")
        return self._parts[part]

    def _once(self, loaded: Images | ImageFiles, part: Part) -> Images | ImageFiles:
        """Check what was loaded, and binarise it for good."""
        if isinstance(loaded, ImageFiles):
            return loaded
        check_images(loaded, f"{self.name} ({part})", self.image_shape)
        return replace(loaded, images=binarize_once(loaded.images, self.binarization, part))

    def _split(self) -> dict[Part, Rows]:
        loaded = self.load("train")
        # Drawn before the split, so that an image's pixels do not depend on val_size.
        once = self._once(loaded, "train")
        own = None if self.val_size == 0 else self.load_own_validation()
        count = len(loaded.labels)
        held_out = self.validation_count(count) if own is None else 0
        if held_out >= count:
            raise ValueError(
                f"val_size must be below the {count} training images of {self.name}, "
                f"got {held_out}."
            )
        train, val = hold_out(count, held_out)
        grey = loaded if self.binarization == "dynamic" else once
        held = Rows(once.select(val), val) if own is None else Rows.whole(self._once(own, "val"))
        return {"train": Rows(grey.select(train), train), "val": held}

    def _loader(self, rows: Rows, batch_size: int, shuffle: bool = False) -> Loader:
        return make_loader(
            rows.images, batch_size, shuffle=shuffle, seed=self.seed, trainer=self.trainer
        )
