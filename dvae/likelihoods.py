"""Likelihoods: log p(x | decoder output), a density or mass over pixels, in nats per example."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from dvae.functional import bernoulli_log_prob

__all__ = ["Bernoulli", "Likelihood"]

_PIXELS = (-3, -2, -1)


class Likelihood(nn.Module, ABC):
    """A distribution of the image given the output of a decoder.

    Attributes:
        params_per_channel: Decoder outputs for each pixel and colour channel, P.
    """

    params_per_channel: int

    @abstractmethod
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Log-likelihood of images.

        Args:
            params: Decoder output ``(..., P * C, H, W)``.
            x: Pixels in [0, 1], ``(..., C, H, W)``; the leading axes broadcast.

        Returns:
            Nats per example, the broadcast leading shape.
        """

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Expected image.

        Args:
            params: Decoder output ``(..., P * C, H, W)``.

        Returns:
            Pixels in [0, 1], ``(..., C, H, W)``.
        """

    def pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Log-likelihood of every image under every decoder output.

        Args:
            params: Decoder outputs ``(S, P * C, H, W)``.
            x: Pixels in [0, 1], ``(B, C, H, W)``.

        Returns:
            Nats per pair, ``(S, B)``.
        """
        return self.log_prob(params.unsqueeze(1), x)


class Bernoulli(Likelihood):
    """Independent black-or-white pixels.

    Grayscale pixels are taken as real-valued targets (the cross-entropy): comparable only with
    figures of the same protocol, and no density over grey values. Binarised pixels make it one.
    """

    params_per_channel = 1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-likelihood over pixels; see `Likelihood.log_prob`."""
        return bernoulli_log_prob(params, x).sum(_PIXELS)

    def mean(self, params: Tensor) -> Tensor:
        """Return the probability of white; see `Likelihood.mean`."""
        return params.sigmoid()

    def pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Split the sum so that pairs cost one matrix product; see the base class."""
        black = bernoulli_log_prob(params, params.new_zeros(())).sum(_PIXELS)
        return params.flatten(1) @ x.flatten(1).T + black.unsqueeze(1)
