"""The code book in plain torch, with all matrices there at once: what the others must equal."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.functional import categorical_kl, one_hot_like, straight_through
from dvae.kernels.noise import gumbel_noise
from dvae.kernels.parts import Book, Relaxation, Sweep

__all__ = ["reference_sweep"]


def reference_sweep(h: Tensor, book: Book, relaxation: Relaxation, seed: Tensor) -> Sweep:
    """Do the sweep in memory of N K numbers, in the dtype of the features.

    Args:
        h: Features ``(N, C)``.
        book: The code book.
        relaxation: The softmax that the gradient goes through.
        seed: Seed of the noise, ``()``, or one for each image, ``(B,)``.

    Returns:
        What the functions of `dvae.kernels.codebook` return.
    """
    codebook = book.codebook
    logits = F.linear(h, book.weight, book.bias)
    at_least_float = logits if logits.dtype == torch.float64 else logits.float()
    num_rows, num_codes = logits.shape
    scores = at_least_float + gumbel_noise(seed, num_rows, num_codes, at_least_float.dtype)
    index = scores.detach().argmax(-1)
    relaxed = (scores if relaxation.noisy else at_least_float) / relaxation.tau
    weights = relaxed.softmax(-1)
    if relaxation.heun:
        code = one_hot_like(at_least_float, index)
        probs = [(weights.detach() + code) / 2, at_least_float.detach().softmax(-1)]
        weights = straight_through(at_least_float, code, probs, [2.0, -0.5])
    weights = weights.to(h.dtype)
    if relaxation.hard:
        # The value and the code book's gradient are those of the vector drawn.
        mixture = weights @ codebook.detach()
        code = codebook[index] + (mixture - mixture.detach())
    else:
        code = weights @ codebook
    log_prior = book.log_prior
    if log_prior is None:
        log_prior = at_least_float.new_full((len(codebook),), -math.log(len(codebook)))
    kl = categorical_kl(at_least_float, log_prior.to(at_least_float.dtype))
    log_sum = at_least_float.detach().logsumexp(-1)
    return Sweep(code, index, kl, logits.detach().argmax(-1), log_sum)
