"""What a model is of: images or other events, taken out of whatever holds them."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from dvae.bottlenecks.base import Bottleneck
from dvae.data.batch import as_batch
from dvae.likelihoods import Likelihood
from dvae.models.tiling import Tiling

__all__ = ["Events"]


class Events(pl.LightningModule):
    """A model of events of one shape and kind.

    Attributes:
        event_shape: Channels, height and width of images; the shape of other events.
        encoder: Events to features.
        bottleneck: Features to the posterior of codes.
        likelihood: Distribution of the event given the decoder's output; knows of which kind.
    """

    event_shape: tuple[int, ...]
    encoder: nn.Module
    bottleneck: Bottleneck
    likelihood: Likelihood

    @property
    def tiling(self) -> Tiling | None:
        """How images of any size are cut into tiles; ``None`` where the code is not their grid."""
        return Tiling.of(self.event_shape, self.bottleneck) if self.likelihood.pixels else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images.

        Raises:
            ValueError: The events are not images, and who asks is for images only.
        """
        if not self.likelihood.pixels:
            raise ValueError(
                f"this is for models of images; got one of events of shape {self.event_shape} "
                f"({type(self.likelihood).__name__})"
            )
        channels, height, width = self.event_shape
        return channels, height, width

    def images_of(self, batch: Any, check: bool = True, any_size: bool = False) -> Tensor:
        """Take the images, or other events, out of a batch, as the network wants them.

        Args:
            batch: Whatever `dvae.data.batch.as_batch` finds images in: uint8 in 0..255, or floats
                in [0, 1]; of other events, what `Likelihood.as_values` takes.
            check: Whether to look at the range of values, for which a GPU has to be waited for.
            any_size: Whether height and width of images may be others that the network divides.

        Returns:
            Pixels in [0, 1], ``(B, C, H, W)``, or events ``(B, *event_shape)``, on the device and,
            but for integers, in the precision of the network.

        Raises:
            ValueError: There are no images in it, or they are of another shape than the network's,
                or no pixels.
        """
        image = as_batch(batch, self.event_shape).image
        if tuple(image.shape[1:]) != tuple(self.event_shape):
            tiling = self.tiling if any_size else None
            if tiling is None or not tiling.divides(image, self.event_shape[0]):
                wanted = tiling or f"(B, {', '.join(map(str, self.event_shape))})"
                kind = "images" if self.likelihood.pixels else "events"
                hint = ""
                if tiling and image.dim() == 4 and image.shape[1] != self.event_shape[0]:
                    hint = f": C must be {self.event_shape[0]}"
                raise ValueError(f"{kind} must be {wanted}; got {tuple(image.shape)}{hint}")
        if check:
            self.likelihood.check_values(image)
        weight = next(self.encoder.parameters(), image)
        values = self.likelihood.as_values(image.to(weight.device))
        return values.to(weight.dtype) if values.is_floating_point() else values

    def check_image_shape(self, shape: tuple[int, ...]) -> None:
        """Compare the shape of the data's images, or other events, with the network's.

        Args:
            shape: Channels, height and width of the data, or the shape of its events.

        Raises:
            ValueError: They differ.
        """
        if tuple(shape) == tuple(self.event_shape):
            return
        if len(shape) != 3 or not self.likelihood.pixels:
            raise ValueError(
                f"the data has events of shape {list(shape)} and the model is for "
                f"{list(self.event_shape)}: set model.network.event_shape, with a model.likelihood "
                "of such events, or choose other data"
            )
        raise ValueError(
            f"the data has images of {_shape(shape)} and the network was built for "
            f"{_shape(self.event_shape)} (channels x height x width): set "
            f"model.network.image_shape to {list(shape)}, or choose other data"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
