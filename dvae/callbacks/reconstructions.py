"""Pictures each epoch: reconstructions of the same images, and samples of the prior."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from dvae.callbacks.pictures import are_due, labelled_rows, show_picture
from dvae.data.resident import ResidentLoader
from dvae.models.base import DiscreteVAE
from dvae.scalars import MOST

__all__ = ["Reconstructions"]


class Reconstructions(Callback):
    """Draw input, hard and relaxed reconstruction of the first images, and prior samples.

    The hard reconstruction decodes the arg-max code; the relaxed one decodes what the estimator
    sends forward in training (itself one-hot for straight-through estimators). The pictures use
    noise of their own and change nothing in the training.

    Args:
        count: Images in a row, at least 1.
        every_n_epochs: Epochs between pictures; 0 for never.

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(self, count: int = 12, every_n_epochs: int = 1) -> None:
        if not 1 <= count <= MOST:
            raise ValueError(f"reconstructions.count must be >= 1 and <= {MOST}; got {count}")
        if every_n_epochs < 0:
            raise ValueError(f"reconstructions.every_n_epochs must be >= 0; got {every_n_epochs}")
        self.count = count
        self.every_n_epochs = every_n_epochs
        self._images: Tensor | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the pictures of this epoch, the last one always."""
        if not trainer.is_global_zero or not isinstance(pl_module, DiscreteVAE):
            return
        if not are_due(trainer, self.every_n_epochs):
            return
        if self._images is None:
            self._images = _first_images(trainer, self.count)
        if self._images is None:
            return
        image = self._images.to(pl_module.device)
        show_picture(trainer, "reconstructions", self._reconstructions(pl_module, image))
        show_picture(trainer, "samples", self._samples(pl_module))

    def _reconstructions(self, model: DiscreteVAE, image: Tensor) -> Any:
        rows = {"input": image, "hard": model.reconstruct(image)}
        noise = model.evaluation.noise("codes", model.device)
        rows["relaxed"] = model.reconstruct_relaxed(image, noise)
        return labelled_rows(rows)

    def _samples(self, model: DiscreteVAE) -> Any:
        noise = model.evaluation.noise("prior", model.device)
        images = model.sample(3 * self.count, noise).chunk(3)
        names = ("prior", "samples", "")
        return labelled_rows(dict(zip(names, images, strict=True)))


def _first_images(trainer: pl.Trainer, count: int) -> Tensor | None:
    # Validation images, which a resident loader holds in order; from a shuffled loader of another
    # kind nothing is taken, since iterating it would change the order of training.
    for loaders in (trainer.val_dataloaders, trainer.train_dataloader):
        loader = loaders[0] if isinstance(loaders, list) and loaders else loaders
        if isinstance(loader, ResidentLoader):
            return loader.images[:count].float() / 255
    for batch in trainer.val_dataloaders or []:
        return batch.image[:count]  # type: ignore[no-any-return]
    return None
