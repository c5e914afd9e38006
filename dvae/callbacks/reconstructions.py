"""Pictures each epoch: reconstructions of the same images, and samples of the prior."""

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from dvae.callbacks.event_pictures import event_curves
from dvae.callbacks.examples import training_examples, validation_examples
from dvae.callbacks.pictures import are_due, show_picture
from dvae.doing import doing
from dvae.models.base import DiscreteVAE
from dvae.models.samples import sample_rows
from dvae.plotting import labelled_rows
from dvae.scalars import MAX_COUNT

__all__ = ["Reconstructions"]


class Reconstructions(Callback):
    """Draw input, hard and relaxed reconstruction of some images, and prior samples.

    They are validation images, where there are such, spread over the classes, and the same ones
    all through the run.

    The hard reconstruction decodes the arg-max code; the relaxed one decodes what the estimator
    sends forward in training (itself one-hot for straight-through estimators). The pictures use
    noise of their own and change nothing in the training. Events of real values that are not images
    are drawn as curves, and of categories there are no pictures.

    Args:
        count: Images in a row, at least 1.
        every_n_epochs: Epochs between pictures; 0 for never.

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(self, count: int = 12, every_n_epochs: int = 1) -> None:
        if not 1 <= count <= MAX_COUNT:
            raise ValueError(f"reconstructions.count must be >= 1 and <= {MAX_COUNT}; got {count}")
        if every_n_epochs < 0:
            raise ValueError(f"reconstructions.every_n_epochs must be >= 0; got {every_n_epochs}")
        self.count = count
        self.every_n_epochs = every_n_epochs
        self._images: Tensor | None = None

    @doing("drawing reconstructions")
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the pictures of this epoch, the last one always."""
        if not isinstance(pl_module, DiscreteVAE) or not are_due(trainer, self.every_n_epochs):
            return
        if self._images is None:
            count = self.count
            found = validation_examples(trainer, count) or training_examples(trainer, count)
            if found is None:
                return
            self._images = found.image
        image = pl_module.images_of(self._images, check=False)
        if not image.is_floating_point():
            return
        pixels = pl_module.likelihood.pixels
        draw, draw_samples = (labelled_rows, labelled_rows) if pixels else (_compared, _sampled)
        show_picture(trainer, "reconstructions", draw(self._reconstructions(pl_module, image)))
        show_picture(trainer, "samples", draw_samples(sample_rows(pl_module, self.count)))

    def _reconstructions(self, model: DiscreteVAE, image: Tensor) -> dict[str, Tensor]:
        rows = {"input": image, "hard": model.reconstruct(image)}
        noise = model.evaluation.noise("codes", model.device)
        rows["relaxed"] = model.reconstruct_relaxed(image, noise)
        return rows


def _compared(rows: dict[str, Tensor]) -> Image.Image:
    return event_curves(rows, "validation examples and their reconstructions")


def _sampled(rows: dict[str, Tensor]) -> Image.Image:
    words = " ".join(filter(None, rows))
    return event_curves({"": torch.cat(list(rows.values()))}, words)
