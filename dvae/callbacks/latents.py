"""Look into the code every few epochs: its use, entropy, images, table and a linear probe."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from dvae.bottlenecks.grid import GridBottleneck
from dvae.callbacks.examples import Examples, spread, validation_examples
from dvae.callbacks.latent_codes import Codes, read_codes
from dvae.callbacks.latent_images import code_sheet, traversal
from dvae.callbacks.latent_plots import plot_codebook, plot_counts, plot_entropy, plot_use
from dvae.callbacks.latent_table import latent_table, table_picture
from dvae.callbacks.linear_probe import probe_accuracy
from dvae.callbacks.pictures import are_due, freed, show_picture, show_table
from dvae.doing import doing
from dvae.models.base import DiscreteVAE
from dvae.scalars import check_count

__all__ = ["PARTS", "LatentInspector"]

log = logging.getLogger("dvae")

PARTS = ("usage", "table", "traversal", "codebook", "entropy", "probe")


@dataclass(frozen=True)
class _View:
    """Images and their codes, and a method for each part, which shows it."""

    trainer: pl.Trainer
    model: DiscreteVAE
    examples: Examples
    codes: Codes
    rows: int

    @property
    def counts(self) -> Tensor:
        """Counts with an axis for the latents or code books, ``(..., K)``."""
        return self.codes.counts.view(-1, self.codes.counts.shape[-1])

    def usage(self) -> None:
        """Draw how often each code is used."""
        plot = plot_use if isinstance(self.model.bottleneck, GridBottleneck) else plot_counts
        self._show("latent_usage", plot(self.counts, len(self.examples.image)))

    def table(self) -> None:
        """Write a table of some images with their codes, and draw them."""
        chosen = spread(self.examples.label, len(self.examples.image), self.rows)
        words = self.examples.words
        label = None if words is None else [words[n] for n in chosen.tolist()]
        image = self.model.images_of(self.examples.image[chosen], check=False)
        index = self.codes.index[chosen]
        show_table(self.trainer, "latent_table", latent_table(self.model, image, index, label))
        if self.model.likelihood.pixels:
            decoded = self.model.decode(index.to(self.model.device))
            self._show("latent_table_images", table_picture(image, decoded, label))

    def traversal(self) -> None:
        """Draw latents of one image flipped through their categories."""
        if self.model.likelihood.pixels:
            picture = traversal(self.model, self.codes.index[0], self.counts)
            self._show("latent_traversal", picture)

    def codebook(self) -> None:
        """Draw the vectors of a code book, and each code decoded alone."""
        bottleneck = self.model.bottleneck
        if not isinstance(bottleneck, GridBottleneck):
            return
        vectors = bottleneck.vectors().float().cpu()
        if vectors.isfinite().all():  # else the training has diverged, which the metrics say
            self._show("codebook", plot_codebook(vectors, self.counts))
        alone = len(self.counts) == 1 and self.model.likelihood.pixels
        sheet = code_sheet(self.model, self.counts[0]) if alone else None
        if sheet is not None:
            self._show("codebook_images", sheet)

    def entropy(self) -> dict[str, float] | None:
        """Draw how uncertain each latent is, and return the mean."""
        posterior = self.codes.posterior
        if posterior is None:
            return None
        self._show("latent_entropy", plot_entropy(posterior, self.counts.shape[-1]))
        return {"val/latent_entropy": posterior.entropy.mean().item()}

    def probe(self) -> dict[str, float] | None:
        """Return how well a linear map reads the label from the code."""
        label = self.examples.label
        accuracy = None if label is None else probe_accuracy(self.codes.index, label)
        return None if accuracy is None else {"val/probe_accuracy": accuracy}

    def _show(self, name: str, picture: Image.Image) -> None:
        show_picture(self.trainer, name, picture)


class LatentInspector(Callback):
    """Show what the code does, on validation images, every few epochs and at the last one.

    The parts, each a picture in ``media/`` and in the loggers:

    - ``usage``: how often each category of each latent, or each code of a code book, is used.
    - ``table``: images with reconstruction, label, code and the log-probabilities of the arg-max
      code, as a `wandb.Table` and a CSV with a picture of its rows.
    - ``traversal``: latents of one image flipped through their categories.
    - ``codebook``: the code book on its principal plane and, up to 512 codes, what each looks like;
      only for code books.
    - ``entropy``: of the posterior of each latent and what the latent tells about the image, nats;
      logs their mean entropy as ``val/latent_entropy``. Not for vector quantizers, which have none.
    - ``probe``: logs ``val/probe_accuracy``, the fraction of labels that a ridge regression reads
      from the one-hot code, fitted to every other code and tested on the rest. Not without labels
      of at least two classes.

    Of events that are not images, what would show images is left out: ``traversal``, and the
    pictures of ``table`` and ``codebook``.

    All is of arg-max codes, and changes nothing in the training. Only the first process works, on
    its own share of the images. To have parts at intervals of their own, add the callback twice.

    Args:
        every_n_epochs: Epochs between looks; 0 for never.
        images: Validation images to look at, spread over the classes, at least 1.
        rows: Rows of the table, 1 to 64.
        parts: Which to show.

    Raises:
        ValueError: A value outside its range, or a part that there is not.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        images: int = 5000,
        rows: int = 64,
        parts: Sequence[str] = PARTS,
    ) -> None:
        check_count("latents.every_n_epochs", every_n_epochs, 0)
        check_count("latents.images", images, 1)
        if not 1 <= rows <= 64:
            raise ValueError(f"latents.rows must be in [1, 64]; got {rows}")
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"latents.parts must be of {', '.join(PARTS)}; got {part!r}")
        self.every_n_epochs = every_n_epochs
        self.images = images
        self.rows = rows
        self.parts = tuple(parts)

    @doing("looking into the code")
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look, where it is time to."""
        if not isinstance(pl_module, DiscreteVAE) or not are_due(trainer, self.every_n_epochs):
            return
        # A library's quantizer may draw from the global generator.
        with isolate_rng(), torch.no_grad(), freed():
            found = validation_examples(trainer, self.images)
            if found is None:
                log.warning("LatentInspector: there are no validation images to look at.")
                return
            codes = read_codes(pl_module, found.image)
            view = _View(trainer, pl_module, found, codes, self.rows)
            metrics: dict[str, float] = {}
            for part in self.parts:
                with doing(f"looking into the code: {part}"):
                    metrics |= getattr(view, part)() or {}
        # Other processes are not here: nothing may be reduced over them.
        pl_module.log_dict(metrics, rank_zero_only=True)
