"""What priors share that draw the integers of a code one after another."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvae.functional import gumbel_max
from dvae.priors.base import EXACT, Prior, Sampling, refuse_label

__all__ = ["SequentialPrior"]


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
            code: One-hot or relaxed codes ``(N, T, K)``; what comes at or after a position does
                not change its logits.
            label: Class of each example, integers ``(N,)``, where the prior knows classes.

        Returns:
            ``(N, T, K)`` in float32 or float64.
        """

    def log_prob(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Sum the log-probabilities of the integers; see `Prior.log_prob`.

        Args:
            code: As in `Prior.log_prob`.
            label: Class of each example, integers ``(B,)`` for codes ``(..., B, *positions)``.
        """
        shape = (self.positions, self.num_codes)
        axes = len(self.index_shape)
        relaxed = code.is_floating_point()
        leading = code.shape[: code.dim() - axes - relaxed]
        index = None if relaxed else code.reshape(-1, self.positions)
        dtype = next(self.parameters()).dtype
        one_hot = code if index is None else F.one_hot(index, self.num_codes).to(dtype)
        rows = one_hot.reshape(-1, *shape)
        if label is not None:
            label = label.expand(leading).reshape(-1)
        log_p = self.logits(rows, label).log_softmax(-1)
        if index is None:
            return (rows.to(log_p.dtype) * log_p).sum((-2, -1)).view(leading)
        return log_p.gather(-1, index.unsqueeze(-1)).sum((-2, -1)).view(leading)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw one integer after another; see `Prior.sample`."""
        refuse_label(self, label)
        like = next(self.parameters())
        code = like.new_zeros(count, self.positions, self.num_codes)
        index = torch.zeros(count, self.positions, dtype=torch.int64, device=like.device)
        for t in range(self.positions):
            logits = how(self._guided(code, how.guidance, label)[:, t])
            uniform = torch.rand(logits.shape, generator=generator, device=like.device)
            index[:, t] = gumbel_max(logits, -(-uniform.clamp_min(1e-20).log()).log())
            code[:, t].scatter_(-1, index[:, t, None], 1.0)
        return index.view(count, *self.index_shape)

    def _guided(self, code: Tensor, guidance: float, label: Tensor | None) -> Tensor:
        logits = self.logits(code, label)
        if not guidance or label is None:
            return logits
        return (1 + guidance) * logits - guidance * self.logits(code)
