"""What a likelihood is: a density or a mass over the pixels of an image, or of other events."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from dvae.described import Described
from dvae.estimators.base import uniform_noise
from dvae.functional import as_pixels, check_range
from dvae.scalars import settings_of
from dvae.stepwise import Stepwise

__all__ = ["LEVELS", "PIXELS", "AroundMean", "Likelihood", "stored"]

LEVELS = 256
"""Values that a stored pixel takes."""

PIXELS = (-3, -2, -1)
"""Axes that a log-likelihood sums over: channels, height, width."""


class Likelihood(Described, Stepwise, nn.Module, ABC):
    """A distribution of the image given the output of a decoder.

    A **mass** (`density` is false) weighs pixels as they are stored: its bits per dimension are
    those of the data. A **density** weighs real pixels on the scale [0, 1]. It sees, in training
    as in evaluation, pixels with uniform noise of one level's width, `dequantize`, where the
    expectation of its logarithm minus log 256 a dimension is a lower bound on the log-mass of the
    8-bit pixel (L. Theis, A. van den Oord, M. Bethge, 2016, arXiv 1511.01844, section 3.1). So
    bits per dimension are -ELBO / (D log 2), and 8 more for a density. The encoder sees stored
    pixels, and so does who asks for the `mean`.

    A likelihood of **other events** says so by `pixels`, checks them in `check_values`, makes what
    a model sees of them in `as_values`, and sums over `axes`. Where images are ``(C, H, W)`` below,
    its events have `event_shape`, and its parameters have that shape with P times as much on the
    first axis.

    Attributes:
        params_per_channel: Decoder outputs for each pixel and colour channel, P.
        density: Whether the values are densities over real pixels.
        levels: Values of a pixel, evenly spaced in [0, 1], that `level_probs` weighs; 0 where there
            are none, as of a density.
        pixels: Whether the events are images of pixels in [0, 1].
        event_shape: Shape of an event, known once the model has called `build`.
    """

    params_per_channel: int
    density: bool
    levels: int = 0
    pixels: bool = True
    event_shape: tuple[int, ...] = ()

    def build(self, event_shape: Sequence[int]) -> None:
        """Fit the likelihood to the events of a model; a subclass may make parameters here.

        Args:
            event_shape: Shape of an event.

        Raises:
            ValueError: They are not of the kind that it weighs.
        """
        if self.pixels and len(event_shape) != 3:
            raise ValueError(
                f"{type(self).__name__} weighs the pixels of images (C, H, W); got events of "
                f"shape {tuple(event_shape)}: set model.likelihood to one of other events, such as "
                "GaussianVector"
            )
        self.event_shape = tuple(event_shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of an event, counted from the last."""
        return tuple(range(-len(self.event_shape), 0))

    def check_values(self, x: Tensor) -> None:
        """Refuse events that cannot be; on a GPU this waits for the device.

        Args:
            x: Events as a data set has them, ``(B, ...)``.

        Raises:
            ValueError: Some values are not of this kind, such as pixels outside [0, 1].
        """
        if x.is_floating_point():
            check_range(x)

    def as_values(self, x: Tensor) -> Tensor:
        """Turn events as a data set has them into those that a model sees.

        Args:
            x: ``(B, ...)``; pixels are uint8 in 0..255, bool, or floats in [0, 1].

        Returns:
            The same shape: floats, which the model brings to its own precision, or integers.

        Raises:
            ValueError: They are of a type that has no such values.
        """
        return as_pixels(x)

    def extra_repr(self) -> str:
        """Name the settings."""
        return settings_of(self)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Log-likelihood of images, in float32 or wider whatever the network ran in.

        Args:
            params: Decoder output ``(..., P * C, H, W)``.
            x: Pixels in [0, 1], from `dequantize`, ``(..., C, H, W)``; the leading axes broadcast.

        Returns:
            Nats per example, the broadcast leading shape.
        """
        with torch.autocast(params.device.type, enabled=False):
            return self._log_prob(*_lifted(params, x))

    def mean(self, params: Tensor) -> Tensor:
        """Expected image, on the scale of stored pixels, in float32 or wider.

        Args:
            params: Decoder output ``(..., P * C, H, W)``.

        Returns:
            Pixels in [0, 1], ``(..., C, H, W)``.
        """
        return self._mean(*_lifted(params))

    def pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Log-likelihood of every image under every decoder output, as precise as `log_prob`.

        Args:
            params: Decoder outputs ``(S, P * C, H, W)``.
            x: Pixels in [0, 1], ``(B, C, H, W)``.

        Returns:
            Nats per pair, ``(S, B)``.
        """
        with torch.autocast(params.device.type, enabled=False):
            return self._pairwise_log_prob(*_lifted(params, x))

    @abstractmethod
    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Compute `log_prob` from tensors of one dtype, float32 or wider, outside of autocast."""

    @abstractmethod
    def _mean(self, params: Tensor) -> Tensor:
        """Compute `mean` from a tensor in float32 or wider; a density ends with `stored`."""

    def _pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Compute `pairwise_log_prob` as `_log_prob` is; by it, where nothing is quicker."""
        return self._log_prob(params.unsqueeze(1), x)

    def params_of(self, mean: Tensor) -> Tensor:
        """Decoder output whose `mean` is a given image, where there is no other parameter.

        Args:
            mean: Pixels within (0, 1), ``(..., C, H, W)``.

        Returns:
            The same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} does not begin at a mean image")

    def level_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """Mass of each value of a channel given the channels before it, to code pixels by.

        Args:
            params: Decoder output ``(B, P * C, H, W)``.
            x: The channels before it, c of them, ``(B, c, H, W)``.

        Returns:
            Probabilities ``(B, H, W, levels)``: of the pixels of an image they multiply to
            exp `log_prob`, but for rounding in the tails.
        """
        raise NotImplementedError(f"{type(self).__name__} does not weigh each value of a pixel")

    def dequantize(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Spread 8-bit pixels over their level where the likelihood is a density.

        Args:
            x: Multiples of 1/255 in [0, 1], any shape.
            generator: Source of the noise; the global generator by default.

        Returns:
            ``(255 x + u) / 256`` with u uniform in [0, 1], at least in float32; ``x`` itself for a
            mass, and where there are no pixels.
        """
        if not (self.density and self.pixels):
            return x
        noise = uniform_noise(x.shape, x, generator)
        return (x.to(noise.dtype) * (LEVELS - 1) + noise) / LEVELS


class AroundMean(Likelihood):
    """A density of pixels around their mean, which is the decoder's output as it is."""

    params_per_channel = 1
    density = True

    def _mean(self, params: Tensor) -> Tensor:
        """Return the mean as a stored pixel; see `Likelihood.mean`."""
        return stored(params)

    def params_of(self, mean: Tensor) -> Tensor:
        """Return the middle of the mean's level; see `Likelihood.params_of`."""
        return (mean * (LEVELS - 1) + 0.5) / LEVELS


def stored(pixels: Tensor) -> Tensor:
    """Take a density's pixels back to the scale of stored ones.

    Args:
        pixels: Real pixels, such as a mean over those of `Likelihood.dequantize`, any shape.

    Returns:
        ``(256 x - 1/2) / 255``, clipped to [0, 1]: the middle of a level is its multiple of 1/255.
    """
    return ((pixels * LEVELS - 0.5) / (LEVELS - 1)).clamp(0, 1)


def _lifted(*tensors: Tensor) -> list[Tensor]:
    """Cast to the widest dtype among them, at least float32: nats are summed over many pixels."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]
