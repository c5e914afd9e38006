"""What priors share that draw the integers of a code one after another."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from dvae.estimators.base import gumbel_noise_like
from dvae.functional import gumbel_max
from dvae.priors.base import EXACT, Prior, Sampling, refuse_label

__all__ = ["NextLogits", "SequentialPrior", "log_p_of", "rows_of"]

NextLogits = Callable[[Tensor, int], Tensor]
"""Gives the logits ``(N, K)`` of integer t, from integers ``(N, T)`` of which those before t count.
"""


def rows_of(
    prior: Prior, code: Tensor, label: Tensor | None
) -> tuple[Tensor, torch.Size, Tensor | None]:
    """Flatten codes to rows, and give each its label.

    Args:
        prior: Whose codes they are.
        code: See `Prior.log_prob`.
        label: See `SequentialPrior.log_prob`.

    Returns:
        Integers ``(N, T)`` or one-hot or relaxed codes ``(N, T, K)``, the leading axes that they
        had, and the labels ``(N,)``.
    """
    relaxed = code.is_floating_point()
    leading = code.shape[: code.dim() - len(prior.index_shape) - relaxed]
    positions = torch.Size(prior.index_shape).numel()
    rows = code.reshape(-1, positions, *[prior.num_codes] * relaxed)
    if label is not None:
        if not prior.num_classes:
            refuse_label(prior, label)
        label = label.repeat(leading[-1] // max(1, len(label))).expand(leading).reshape(-1)
    return rows, leading, label


def log_p_of(logits: Tensor, code: Tensor) -> Tensor:
    """Return the log-probability of each integer, ``(N, T)``, linear in those that are relaxed.

    Args:
        logits: ``(N, T, K)``.
        code: Integers ``(N, T)`` or relaxed codes ``(N, T, K)``.
    """
    log_p = logits.log_softmax(-1)
    if code.is_floating_point():
        return (log_p * code).sum(-1)
    return log_p.gather(-1, code.unsqueeze(-1)).squeeze(-1)


class SequentialPrior(Prior):
    r"""A prior :math:`p(z) = \prod_t p(z_t \mid z_{<t})` in raster order (latents in order).

    log p of a relaxed code is :math:`\sum_t \sum_k z_{tk} \log p(k \mid z_{<t})`: the gradient goes
    through what is conditioned on and through what is predicted.

    Attributes:
        positions: Number T of integers of a code.
        shared: Whether all positions use one set of codes, as those of a grid do.
    """

    positions: int
    shared: bool

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; see `Prior.build`."""
        super().build(index_shape, counts_shape)
        self.positions = int(torch.Size(index_shape).numel())
        self.shared = len(counts_shape) == 1
        self._make()

    @abstractmethod
    def _make(self) -> None:
        """Make the layers, once `positions` and `num_codes` are known."""

    @abstractmethod
    def logits(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of each integer given those before it.

        Args:
            code: One-hot or relaxed codes ``(N, T, K)``, or integers ``(N, T)``; what comes at or
                after a position does not change its logits.
            label: Class of each example, integers ``(N,)``, where the prior knows classes.

        Returns:
            ``(N, T, K)`` in float32 or float64.
        """

    def log_prob(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Sum the log-probabilities of the integers; see `Prior.log_prob`.

        Args:
            code: As in `Prior.log_prob`.
            label: Class of each example, integers ``(B,)`` for codes ``(..., B, *positions)``, or
                ``(..., m B, *positions)`` of m copies of the batch.
        """
        rows, leading, label = rows_of(self, code, label)
        return log_p_of(self.logits(rows, label), rows).sum(-1).view(leading)

    def steps(self, label: Tensor | None = None) -> NextLogits:
        """Return a function that gives the logits of one integer after another.

        It is called for t = 0, 1, ..., T - 1 with integers ``(N, T)``, those before t drawn
        already, and returns ``(N, K)``.

        Args:
            label: As in `logits`.
        """
        return lambda index, t: self.logits(index, label)[:, t]

    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw one integer after another; see `Prior.sample`."""
        device = next(self.parameters()).device
        index = torch.zeros(count, self.positions, dtype=torch.int64, device=device)
        new = torch.ones_like(index, dtype=torch.bool)
        return self._drawn(index, new, generator, how, label).view(count, *self.index_shape)

    def complete(
        self,
        index: Tensor,
        mask: Tensor,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw all from some integer on, given those before it; see `Prior.complete`.

        Raises:
            ValueError: The mask of an image has a gap in raster order.
        """
        new = mask.expand_as(index).reshape(-1, self.positions)
        if (new[:, :-1] & ~new[:, 1:]).any():
            raise ValueError(
                f"{type(self).__name__} draws all integers from some place on, in raster order: "
                "the mask must be True from there to the end; MaskedPrior takes any"
            )
        given = index.reshape(-1, self.positions)
        return self._drawn(given, new, generator, how, label).view_as(index)

    @torch.no_grad()
    def _drawn(
        self,
        index: Tensor,
        new: Tensor,
        generator: Generator | None,
        how: Sampling,
        label: Tensor | None,
    ) -> Tensor:
        refuse_label(self, label)
        index = index.clone()
        step = self.steps(label)
        untold = self.steps() if how.guidance and label is not None else None
        for t in range(self.positions):
            logits = how(step(index, t), None if untold is None else untold(index, t))
            drawn = gumbel_max(logits, gumbel_noise_like(logits, generator))
            index[:, t] = torch.where(new[:, t], drawn, index[:, t])
        return index
