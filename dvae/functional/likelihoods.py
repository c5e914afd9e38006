"""Log-densities of images given the output of a decoder, in nats."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["bernoulli_log_prob"]


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    r"""Bernoulli log-likelihood :math:`x\,l - \mathrm{softplus}(l)` of each pixel.

    Args:
        logits: Log-odds :math:`l` of a white pixel, any shape.
        x: Pixels in [0, 1], broadcastable with ``logits``. A real value between the two is the
            grayscale protocol: minus the cross-entropy, not a normalised density.

    Returns:
        Nats per pixel, the broadcast shape.
    """
    return x * logits - F.softplus(logits)
