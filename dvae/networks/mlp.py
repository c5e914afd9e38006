"""Multilayer perceptrons on flattened images or other events."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn

from dvae.networks.base import Network
from dvae.networks.center import Center

__all__ = ["MLP"]


@dataclass(frozen=True)
class MLP(Network):
    """Fully connected encoder and, mirrored unless said otherwise, decoder.

    Args:
        image_shape: Channels, height and width.
        hidden: Widths of the encoder's hidden layers, outermost first.
        norm: Normalisation of each hidden layer: ``batch`` or ``none``.
        negative_slope: Slope of leaky rectifiers below 0, in [0, 1); 0 is the plain one. By default
            the activation is GELU (D. Hendrycks, K. Gimpel, 2016, arXiv 1606.08415).
        decoder_hidden: Widths of the decoder's hidden layers, outermost last; those of the encoder
            in reverse by default.
        center: Whether the encoder sees the images less their mean over the training batches, see
            `Center`; with ``norm: batch`` it is of no use.
        event_shape: Shape of events that are not images, such as ``(13,)`` of the rows of a table;
            `image_shape` by default.

    Raises:
        ValueError: A width or a size below 1.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    hidden: Sequence[int] = (512, 256)
    norm: Literal["batch", "none"] = "batch"
    negative_slope: float | None = None
    decoder_hidden: Sequence[int] | None = None
    center: bool = False
    event_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name in ("image_shape", "event_shape", "hidden", "decoder_hidden"):
            values = getattr(self, name)
            if values is not None and any(value < 1 for value in values):
                raise ValueError(f"MLP.{name} must hold numbers >= 1; got {list(values)}")
        object.__setattr__(self, "event_shape", tuple(self.event_shape) or self.image_shape)
        if self.norm not in ("batch", "none"):
            raise ValueError(f"MLP.norm must be 'batch' or 'none'; got {self.norm!r}")
        if self.negative_slope is not None and not 0 <= self.negative_slope < 1:
            raise ValueError(f"MLP.negative_slope must be in [0, 1); got {self.negative_slope:g}")

    def encoder(self, out_features: int) -> nn.Module:
        """Build ``(B, C, H, W)`` to ``(B, out_features)``, no activation at the end."""
        widths = [math.prod(self.event_shape), *self.hidden]
        first = [Center(*self.event_shape)] if self.center else []
        return nn.Sequential(*first, nn.Flatten(), *self._hidden(widths, out_features))

    def decoder(self, in_features: int, params_per_channel: int) -> nn.Module:
        """Build ``(B, in_features)`` to ``(B, params_per_channel * C, H, W)``."""
        channels, *others = self.event_shape
        shape = (params_per_channel * channels, *others)
        mirrored = self.hidden[::-1] if self.decoder_hidden is None else self.decoder_hidden
        widths = [in_features, *mirrored]
        return nn.Sequential(*self._hidden(widths, math.prod(shape)), nn.Unflatten(1, shape))

    def _hidden(self, widths: list[int], out_features: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        batch_norm = self.norm == "batch"
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Linear(width_in, width_out, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(self._activation())
        return [*layers, nn.Linear(widths[-1], out_features)]

    def _activation(self) -> nn.Module:
        if self.negative_slope is None:
            return nn.GELU()
        return nn.LeakyReLU(self.negative_slope, inplace=True)
