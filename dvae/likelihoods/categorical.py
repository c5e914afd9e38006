"""Categories at each place of a sequence: letters, tokens, classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.likelihoods.base import Likelihood
from dvae.scalars import check_count

__all__ = ["Categorical"]


class Categorical(Likelihood):
    r"""One of V categories at each place, independent given the code: :math:`\prod_t p_t(x_t)`.

    Events are integers in [0, V), such as ``(T,)`` of a sequence; a network with an embedding at
    its entrance reads them, see `dvae.networks.Embedded`. The decoder gives V logits a place, those
    of a category side by side. What it returns for a code is the most probable category of each
    place, as integers.

    Args:
        categories: V, at least 2.

    Raises:
        ValueError: ``categories`` is below 2.
    """

    density = False
    pixels = False

    def __init__(self, categories: int = 27) -> None:
        super().__init__()
        check_count("Categorical.categories", categories, 2)
        self.categories = self.params_per_channel = categories

    def check_values(self, x: Tensor) -> None:
        """Refuse categories that there are not; see `Likelihood.check_values`."""
        if x.is_floating_point() or not x.numel():
            return
        low, high = int(x.min()), int(x.max())
        if not 0 <= low <= high < self.categories:
            raise ValueError(
                f"categories must be integers in [0, {self.categories}); got {low} to {high}"
            )

    def as_values(self, x: Tensor) -> Tensor:
        """Take integers of any type; see `Likelihood.as_values`."""
        if x.is_floating_point():
            raise ValueError(
                f"categories must be integers in [0, {self.categories}); got {x.dtype}"
            )
        return x.long()

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Sum the log-probabilities over the places; see `Likelihood.log_prob`."""
        log_p = self._logits(params).log_softmax(-1)
        shape = torch.broadcast_shapes(log_p.shape[:-1], x.shape)
        index = x.long().expand(shape).unsqueeze(-1)
        return log_p.expand(*shape, -1).gather(-1, index).squeeze(-1).sum(self.axes)

    def _pairwise_log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Look up all pairs by one matrix product; see the base class."""
        log_p = self._logits(params).log_softmax(-1).flatten(1)
        return log_p @ F.one_hot(x.long(), self.categories).to(log_p.dtype).flatten(1).T

    def _mean(self, params: Tensor) -> Tensor:
        """Return the most probable categories, integers; see `Likelihood.mean`."""
        return self._logits(params).argmax(-1)

    def _logits(self, params: Tensor) -> Tensor:
        """Put the categories of ``(..., V * T, *rest)`` last: ``(..., T, *rest, V)``."""
        axis = -len(self.event_shape)
        logits: Tensor = params.unflatten(axis, (self.categories, -1)).movedim(axis - 1, -1)
        return logits
