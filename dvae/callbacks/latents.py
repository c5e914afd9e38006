"""Look into the code every few epochs: its use, entropy, images, table and a linear probe."""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
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
from dvae.callbacks.pictures import are_due, show_picture, show_table
from dvae.models.base import DiscreteVAE

__all__ = ["PARTS", "LatentInspector"]

log = logging.getLogger("dvae")

PARTS = ("usage", "table", "traversal", "codebook", "entropy", "probe")


@dataclass(frozen=True)
class _View:
    """What each part looks at: images, and their codes."""

    trainer: pl.Trainer
    model: DiscreteVAE
    examples: Examples
    codes: Codes

    @property
    def counts(self) -> Tensor:
        """Counts with an axis for the latents or code books, ``(..., K)``."""
        return self.codes.counts.view(-1, self.codes.counts.shape[-1])


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
        if every_n_epochs < 0:
            raise ValueError(f"latents.every_n_epochs must be >= 0; got {every_n_epochs}")
        if images < 1:
            raise ValueError(f"latents.images must be >= 1; got {images}")
        if not 1 <= rows <= 64:
            raise ValueError(f"latents.rows must be in [1, 64]; got {rows}")
        for part in parts:
            if part not in PARTS:
                raise ValueError(f"latents.parts must be of {', '.join(PARTS)}; got {part!r}")
        self.every_n_epochs = every_n_epochs
        self.images = images
        self.rows = rows
        self.parts = tuple(parts)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look, where it is time to."""
        if not isinstance(pl_module, DiscreteVAE) or not are_due(trainer, self.every_n_epochs):
            return
        # A library's quantizer may draw from the global generator.
        with isolate_rng(), torch.no_grad():
            found = validation_examples(trainer, self.images)
            if found is None:
                log.warning("LatentInspector: there are no validation images to look at.")
                return
            view = _View(trainer, pl_module, found, read_codes(pl_module, found.image))
            metrics: dict[str, float] = {}
            for part in self.parts:
                metrics |= self._part(part)(view)
        # Other processes are not here: nothing may be reduced over them.
        pl_module.log_dict(metrics, rank_zero_only=True)
        # A drawn figure is thousands of objects in reference cycles that hold megabytes. Python's
        # collector goes by the number of objects, and would let a hundred epochs of them pile up.
        gc.collect()

    def _part(self, name: str) -> Callable[[_View], dict[str, float]]:
        parts = (_usage, self._table, _traversal, _codebook, _entropy, _probe)
        return dict(zip(PARTS, parts, strict=True))[name]

    def _table(self, view: _View) -> dict[str, float]:
        chosen = spread(view.examples.label, len(view.examples.image), self.rows)
        words = view.examples.words
        label = None if words is None else [words[n] for n in chosen.tolist()]
        image = view.model.images_of(view.examples.image[chosen], check=False)
        index = view.codes.index[chosen]
        rows = latent_table(view.model, image, index, label)
        show_table(view.trainer, "latent_table", rows)
        if not view.model.likelihood.pixels:
            return {}
        picture = table_picture(image, view.model.decode(index.to(view.model.device)), label)
        show_picture(view.trainer, "latent_table_images", picture)
        return {}


def _usage(view: _View) -> dict[str, float]:
    plot = plot_use if isinstance(view.model.bottleneck, GridBottleneck) else plot_counts
    show_picture(view.trainer, "latent_usage", plot(view.counts, len(view.examples.image)))
    return {}


def _traversal(view: _View) -> dict[str, float]:
    if view.model.likelihood.pixels:
        picture = traversal(view.model, view.codes.index[0], view.counts)
        show_picture(view.trainer, "latent_traversal", picture)
    return {}


def _codebook(view: _View) -> dict[str, float]:
    bottleneck = view.model.bottleneck
    if not isinstance(bottleneck, GridBottleneck):
        return {}
    vectors = bottleneck.vectors().float().cpu()
    if vectors.isfinite().all():  # else the training has diverged, which the metrics say
        show_picture(view.trainer, "codebook", plot_codebook(vectors, view.counts))
    alone = len(view.counts) == 1 and view.model.likelihood.pixels
    sheet = code_sheet(view.model, view.counts[0]) if alone else None
    if sheet is not None:
        show_picture(view.trainer, "codebook_images", sheet)
    return {}


def _entropy(view: _View) -> dict[str, float]:
    posterior = view.codes.posterior
    if posterior is None:
        return {}
    picture = plot_entropy(posterior, view.counts.shape[-1])
    show_picture(view.trainer, "latent_entropy", picture)
    return {"val/latent_entropy": posterior.entropy.mean().item()}


def _probe(view: _View) -> dict[str, float]:
    if view.examples.label is None:
        return {}
    accuracy = probe_accuracy(view.codes.index, view.examples.label)
    return {} if accuracy is None else {"val/probe_accuracy": accuracy}
