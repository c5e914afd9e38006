"""A transformer that fills in any integers of a code given any others."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dvae.estimators.base import gumbel_noise_like
from dvae.functional import gumbel_max
from dvae.priors.base import EXACT, Sampling, refuse_label
from dvae.priors.sequential import log_p_of, rows_of
from dvae.priors.transformer import TransformerPrior
from dvae.scalars import check_count

__all__ = ["MaskedPrior"]


class MaskedPrior(TransformerPrior):
    r"""A transformer that predicts the masked integers of a code from the others, several at once.

    It is the mean over N orders :math:`\sigma` of the integers, each drawn in S steps of which the
    first ones draw few and the last ones many, independently of each other:

    .. math:: p(z) = \frac1N \sum_\sigma \prod_{s=1}^S \prod_{i \in \sigma_s}
        p(z_i \mid z_{\sigma_1}, \ldots, z_{\sigma_{s-1}})

    In evaluation `log_prob` is the logarithm of that, in N S passes; it is what `sample` draws
    from, and bounds that are reported with it are bounds. With as many steps as integers they are
    drawn one by one. The integers that a code lacks are drawn at any place by `complete`.

    It starts uniform, and can be told of classes, as `AutoregressivePrior` can.

    Warning:
        In training `log_prob` is an unbiased estimate, in one pass, of a *lower bound* on log p,
        that of the mean over all orders of one integer after another: :math:`T / m` times the sum
        of the log-probabilities of a random number m of the T integers, masked at random. What is
        reported of it, such as ``train/elbo``, is a lower bound in expectation. The objective
        `IWAE` is no bound with an estimate inside, and has no ``train/elbo``; ``test/iwae`` is one.

    Args:
        width: Features of a token, at least 1, a multiple of ``heads``.
        depth: Layers of attention and perceptron, at least 1.
        heads: Heads of each layer, at least 1.
        num_classes: Classes of the data, where the prior is to know them; 0 for none.
        label_dropout: Fraction of the labels that training leaves out, in [0, 1].
        steps: Steps S in which a code is drawn, at least 1; at most as many as it has integers are
            taken. More of them are nearer to drawing one by one, and cost as much more.
        orders: Orders N, at least 1, chosen at random once and for all; all of them where there
            are no more.

    Raises:
        ValueError: A value outside its range.

    References:
        E. Hoogeboom et al., 2021, arXiv 2110.02037, eq. 5 and 6 (the bound; several at once);
        J. Austin et al., 2021, arXiv 2107.03006, section 3.1 (absorbing state); H. Chang et al.,
        2022, arXiv 2202.04200, section 3.3 (few first: the cosine).

    Example:
        >>> prior = MaskedPrior(width=8, depth=1, heads=2)
        >>> prior.build((4,), (4, 10))
        >>> prior.eval().log_prob(prior.sample(2)).shape
        torch.Size([2])
    """

    estimates = True
    turns: Tensor

    def __init__(
        self,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        num_classes: int = 0,
        label_dropout: float = 0.1,
        steps: int = 16,
        orders: int = 1,
    ) -> None:
        super().__init__(width, depth, heads, num_classes, label_dropout)
        check_count("MaskedPrior.steps", steps, 1)
        check_count("MaskedPrior.orders", orders, 1)
        self.steps, self.orders = steps, orders

    def build(self, index_shape: Sequence[int], counts_shape: Sequence[int]) -> None:
        """Fit the prior to a code; see `Prior.build`."""
        super().build(index_shape, counts_shape)
        self.positions = int(torch.Size(index_shape).numel())
        self.net = self._transformer(counts_shape, causal=False)
        # (N, T): when each integer has its turn. The same for all priors of such codes.
        self.register_buffer("turns", _orders(self.positions, self.orders), persistent=False)

    def logits(self, code: Tensor, seen: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of each integer given those that are seen.

        Args:
            code: One-hot or relaxed codes ``(N, T, K)``, or integers ``(N, T)``.
            seen: Which of them count, booleans ``(N, T)`` or ``(T,)``; the logits of those are of
                no use.
            label: Class of each example, integers ``(N,)``, where the prior knows classes.

        Returns:
            ``(N, T, K)`` in float32 or float64.
        """
        net = self.net
        # The token of what is masked is that of the image's class, or of none.
        tokens = torch.where(seen.unsqueeze(-1), net.tokens(code), net.first(label, code.shape[0]))
        return net.logits(net.layers(tokens + net.places()))

    def log_prob(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Return log p(z), in training an estimate of a bound on it; see the class.

        Args:
            code: As in `Prior.log_prob`; draws of one example are given one mask in training, so
                that they can be compared.
            label: As in `SequentialPrior.log_prob`.
        """
        rows, leading, label = rows_of(self, code, label)
        if self.training:
            masked = self._masks(leading[-1] if leading else 1)
            masked = masked.expand(*leading, -1).reshape(-1, self.positions)
            log_p = log_p_of(self.logits(rows, ~masked, label), rows)
            mean = (log_p * masked).sum(-1) / masked.sum(-1)
            return (self.positions * mean).view(leading)
        found = [self._log_p(rows, turns, label) for turns in self.turns]
        return (torch.stack(found).logsumexp(0) - math.log(len(found))).view(leading)

    def _log_p(self, rows: Tensor, turns: Tensor, label: Tensor | None) -> Tensor:
        """Return log p in one order, which is exact: ``(N,)``."""
        total = torch.zeros((), device=rows.device)
        for start, end in self.spans():
            log_p = log_p_of(self.logits(rows, turns < start, label), rows)
            total = total + (log_p * ((turns >= start) & (turns < end))).sum(-1)
        return total

    def _masks(self, count: int) -> Tensor:
        """Draw which integers to mask, any number of them alike, ``(count, T)``."""
        device = self.turns.device
        turns = torch.rand(count, self.positions, device=device).argsort(1)
        return turns < torch.randint(1, self.positions + 1, (count, 1), device=device)

    def spans(self) -> list[tuple[int, int]]:
        """Return the first turn of each step, and that of the next one."""
        total = self.positions
        steps, ends = min(self.steps, total), [0]
        for step in range(1, steps + 1):
            end = round(total * (1 - math.cos(math.pi * step / steps / 2)))
            # At least one integer a step, and one left for each of the others.
            ends.append(min(max(end, ends[-1] + 1), total - (steps - step)))
        return list(itertools.pairwise(ends))

    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw codes, each in one of the orders; see `Prior.sample`."""
        index = torch.zeros(count, *self.index_shape, dtype=torch.int64, device=self.turns.device)
        return self.complete(index, torch.ones_like(index, dtype=torch.bool), generator, how, label)

    @torch.no_grad()
    def complete(
        self,
        index: Tensor,
        mask: Tensor,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw the integers at any places, given the others; see `Prior.complete`.

        They are drawn as if those of the others were drawn already, in the turns that are left.
        """
        refuse_label(self, label)
        code = index.reshape(-1, self.positions)
        new = mask.expand_as(index).reshape(-1, self.positions)
        which = torch.randint(
            len(self.turns), (len(code),), generator=generator, device=code.device
        )
        turns = self.turns[which].masked_fill(~new, -1).argsort(1).argsort(1)
        for start, end in self.spans():
            now = new & (turns >= start) & (turns < end)
            if not now.any():
                continue
            seen = ~new | (turns < start)
            guided = how.guidance and label is not None
            untold = self.logits(code, seen) if guided else None
            logits = how(self.logits(code, seen, label), untold)
            drawn = gumbel_max(logits, gumbel_noise_like(logits, generator))
            code = torch.where(now, drawn, code)
        return code.view_as(index)


def _orders(positions: int, count: int) -> Tensor:
    """Return the turn of each integer in some orders, ``(N, T)``, or in all of them."""
    if positions <= 20 and math.factorial(positions) <= count:
        return torch.tensor(list(itertools.permutations(range(positions))))
    generator = Generator().manual_seed(0)
    return torch.stack([torch.randperm(positions, generator=generator) for _ in range(count)])
