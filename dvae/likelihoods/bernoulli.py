"""Black-or-white pixels."""

import torch
from torch import Tensor

from dvae.functional import bernoulli_log_prob
from dvae.likelihoods.base import PIXELS, Likelihood

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Independent black-or-white pixels.

    Grayscale pixels are taken as real-valued targets (the cross-entropy): comparable only with
    figures of the same protocol, and no density over grey values. Binarised pixels make it one.
    """

    params_per_channel = 1
    density = False
    levels = 2

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-likelihood over pixels; see `Likelihood.log_prob`."""
        return bernoulli_log_prob(params, x).sum(PIXELS)

    def _mean(self, params: Tensor) -> Tensor:
        """Return the probability of white; see `Likelihood.mean`."""
        return params.sigmoid()

    def params_of(self, mean: Tensor) -> Tensor:
        """Return the log-odds; see `Likelihood.params_of`."""
        return mean.logit()

    def _pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Split the sum so that pairs cost one matrix product; see the base class."""
        black = bernoulli_log_prob(params, params.new_zeros(())).sum(PIXELS)
        return params.flatten(1) @ x.flatten(1).T + black.unsqueeze(1)

    def level_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """Weigh black and white; see `Likelihood.level_probs`."""
        logits = params[:, x.shape[1]]
        return torch.stack([-logits, logits], -1).sigmoid()
