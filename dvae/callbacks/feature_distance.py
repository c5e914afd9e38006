"""Distances between test images and reconstructions, in features that no training has seen."""

import logging

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from dvae.callbacks.reconstruction_distance import ReconstructionDistance
from dvae.features import EfficientNetLite
from dvae.functional import frechet_distance, precision_recall
from dvae.models.base import DiscreteVAE

__all__ = ["FeatureDistance"]

log = logging.getLogger("dvae")

# Height and width that the network was trained on.
_SIZE = 224
_NEIGHBOURS = 3


class Features(Metric):
    """Features of images and of their reconstructions, of all processes, and what they say."""

    full_state_update = False
    real: list[Tensor]
    made: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("real", "made"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add the features of a batch ``(B, D)``, of images or of what was made of them."""
        (self.real if real else self.made).append(features)

    def compute(self) -> dict[str, Tensor]:
        """Return the distance, precision and recall, by the names they are logged under.

        Of too few images there is none, and a line in the log.
        """
        real, made = dim_zero_cat(self.real), dim_zero_cat(self.made)
        if len(real) <= _NEIGHBOURS:
            log.warning(
                "FeatureDistance measures nothing: it needs more than %d test images; got %d",
                _NEIGHBOURS,
                len(real),
            )
            return {}
        precision, recall = precision_recall(real, made, _NEIGHBOURS)
        found = {
            "test/frechet_lite1": frechet_distance(real, made),
            "test/precision_lite1": precision,
            "test/recall_lite1": recall,
        }
        return {name: value.float() for name, value in found.items()}


class FeatureDistance(ReconstructionDistance):
    """Measure ``test/frechet_lite1``, ``test/precision_lite1`` and ``test/recall_lite1``.

    They compare the test images with their arg-max reconstructions by the 1,280 pooled features of
    EfficientNet-Lite1, which `Perceptual` does not train on, of images resized to 224 pixels. The
    Fréchet distance is the formula of the FID on other features: it is no FID and comparable with
    none, only with itself at equal numbers of images, of which it wants some thousands. Precision
    is the share of reconstructions that lie among the images (the third neighbour says how near
    that is), recall the share of images that lie among the reconstructions.

    The network comes with the extra ``perceptual``. On a processor it takes about a twentieth of a
    second for an image. With fewer than 4 test images it measures nothing, and says so.

    Raises:
        MissingExtra: The network is not installed.
        ValueError: Before the run, images of other than 1 or 3 channels.

    References:
        M. Heusel et al., 2017, arXiv 1706.08500, eq. 6; T. Kynkäänniemi et al., 2019, arXiv
        1904.06991.
    """

    def __init__(self) -> None:
        self._network: nn.Module = EfficientNetLite(1)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse images that the network does not take."""
        super().setup(trainer, pl_module, stage)
        if isinstance(pl_module, DiscreteVAE) and pl_module.image_shape[0] not in (1, 3):
            channels = pl_module.image_shape[0]
            raise ValueError(f"FeatureDistance takes images of 1 or 3 channels; got {channels}")

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew, with the network on the model's device."""
        super().on_test_epoch_start(trainer, pl_module)
        self._network = self._network.to(pl_module.device)

    def _make_metric(self) -> Features:
        return Features()

    def _named(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        return found

    @torch.no_grad()
    def _seen(self, image: Tensor) -> Tensor:
        resized = F.interpolate(image.float(), (_SIZE, _SIZE), mode="bilinear", antialias=True)
        with torch.autocast(image.device.type, enabled=False):
            features: Tensor = self._network(resized.clamp(0, 1))
        return features
