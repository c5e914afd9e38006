"""The codes of a data set to train a prior on, with its images to validate and test on."""

from typing import Any

import torch

from dvae.data.base import ImageDataModule
from dvae.data.batch import Batch, CodeBatch
from dvae.data.images import ImageFiles, Images, Part, Rows, Split
from dvae.data.tokens import Tokens

__all__ = ["TokenData"]


class TokenData(ImageDataModule):
    """Training batches are the arg-max codes that ``predict`` wrote: no image is encoded again.

    Validation and test go through the images, so that their bounds are those of any other run. It
    trains the prior alone, with the objective ``PriorLikelihood(codes="mode")``.

    Args:
        folder: Folder of the tokens of a training split.
        images: The data set that they are the codes of.

    Raises:
        ValueError: As in `Tokens`, when the data are set up, or they are of another split.
    """

    def __init__(self, folder: str, images: ImageDataModule) -> None:
        """Take the settings of the images; nothing is read before `setup`."""
        super().__init__(
            images.batch_size, images.val_size, images.binarization, images.seed, images.data_dir
        )
        if "images" in self.hparams and not isinstance(self.hparams["images"], dict):
            del self.hparams["images"]  # a checkpoint must load without its class
        self.folder, self.images, self.name = folder, images, images.name
        self.eval_batch_size = images.eval_batch_size  # type: ignore[misc]
        self.tokens: Tokens | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return self.images.image_shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.images.num_classes

    @property
    def labelled(self) -> bool:  # type: ignore[override]
        """Whether the labels mean anything."""
        return self.images.labelled

    @property
    def protocol(self) -> str:
        """The data set of the images and how its pixels are treated."""
        return self.images.protocol

    def load(self, split: Split) -> Images | ImageFiles:
        """Read the images of a published split; see `ImageDataModule.load`."""
        return self.images.load(split)

    def setup(self, stage: str | None = None) -> None:
        """Read the tokens once, and what a stage needs of the images."""
        self.images.setup(stage)
        self.class_names = self.images.class_names
        if stage in (None, "fit") and self.tokens is None:
            tokens = Tokens(self.folder)
            if tokens.about.split != "train":
                raise ValueError(
                    f"data.folder must have tokens of the train split; {self.folder} has those of "
                    f"{tokens.about.split}"
                )
            self.tokens = tokens

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Any:
        """Tell codes from pixels, which become what a model sees."""
        if batch.image.dtype == torch.int32:
            return CodeBatch(batch.image.long(), batch.label)
        return self.images.on_after_batch_transfer(batch, dataloader_idx)

    def _part(self, part: Part) -> Rows:
        if part != "train":
            return self.images._part(part)
        self.setup("fit")
        assert self.tokens is not None
        return Rows(Images(self.tokens.codes, self.tokens.labels), self.tokens.index)
