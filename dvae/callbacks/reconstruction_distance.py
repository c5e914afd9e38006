"""What callbacks share that compare test images with their reconstructions by a metric."""

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from dvae.doing import doing
from dvae.models.base import DiscreteVAE

__all__ = ["ReconstructionDistance"]


class ReconstructionDistance(Callback, ABC):
    """Give a metric the test images and their arg-max reconstructions, and log what it finds.

    The metric is made for a test and gone after it. Its `update` takes what `_seen` makes of
    images, and whether they are ``real``.
    """

    _metric: Metric | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a model whose events are not images, which says so when it is asked."""
        if isinstance(pl_module, DiscreteVAE):
            _ = pl_module.image_shape

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._metric = self._make_metric().to(pl_module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Take in a batch and its reconstructions."""
        assert self._metric is not None and isinstance(pl_module, DiscreteVAE)
        image = pl_module.images_of(batch, check=False)
        self._metric.update(self._seen(image), real=True)
        self._metric.update(self._seen(pl_module.reconstruct(image)), real=False)

    @doing("comparing all test images with their reconstructions")
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the images of all processes say."""
        assert self._metric is not None
        pl_module.log_dict(self._named(self._metric.compute()))
        self._metric = None

    @abstractmethod
    def _make_metric(self) -> Metric: ...

    @abstractmethod
    def _seen(self, image: Tensor) -> Tensor: ...

    @abstractmethod
    def _named(self, found: Any) -> dict[str, Tensor]: ...
