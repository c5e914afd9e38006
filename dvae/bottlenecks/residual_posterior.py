"""A posterior of several integers a position, each given those before it."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvae.bottlenecks.posterior import CodeDraw, CodeFunction, Posterior
from dvae.estimators.base import Estimator, PathwiseEstimator, gumbel_noise_like, refuse_as_layer
from dvae.estimators.exact_enumeration import ExactEnumeration
from dvae.functional import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    gumbel_max,
    iwae_bound,
    one_hot_like,
)
from dvae.scalars import check_count

if TYPE_CHECKING:
    from dvae.bottlenecks.codebook import CodebookBottleneck
    from dvae.priors.base import FactorisedPrior

__all__ = ["ResidualPosterior"]

# Logits of one level at once, outside of training.
_LOGITS = 2**24

Price = Callable[[Tensor, int], Tensor]
"""From logits ``(..., *positions, K)`` and the number of their level: ``(..., *positions)``."""


class ResidualPosterior(Posterior):
    r"""The chain :math:`\prod_l q(z_l \mid x, z_{<l})`, with any estimator.

    The logits of a level are those of what the vectors drawn before it have left of the features.
    An expectation is one of expectations, :math:`E_{z_1} E_{z_2 | z_1} \dots f`, and the estimator
    takes each of them: an unbiased one stays unbiased, a pathwise one draws once at each level, and
    one of S draws evaluates f at :math:`S^L`. What an estimator learns (a baseline, a control
    variate) it learns of all of them.

    The entropy and the KL are expectations too, of what each level has given the draws before it.
    They are unbiased estimates: with the estimator's gradient where gradients are on, and else at
    the exact draws that `sample` gave last.

    Args:
        rows: Features ``(B, *positions, D)`` in float32 or float64.
        books: The code book of each level.
        estimator: How the gradient crosses a draw.
        mix: Turns codes ``(..., *positions, L, K)``, one-hot or relaxed, into decoder inputs.
    """

    def __init__(
        self,
        rows: Tensor,
        books: "Sequence[CodebookBottleneck]",
        estimator: Estimator,
        mix: Callable[[Tensor], Tensor],
    ) -> None:
        self._rows, self._books, self._estimator, self._mix = rows, books, estimator, mix
        self._num_codes = books[0].num_codes
        self._drawn: Tensor | None = None

    @cached_property
    def _greedy(self) -> list[tuple[Tensor, Tensor]]:
        return list(self._walk(self._rows, lambda logits, _: logits.argmax(-1)))

    @property
    def logits(self) -> Tensor:
        """Those of each level given the arg-max of the levels before, ``(B, *positions, L, K)``."""
        return torch.stack([logits for logits, _ in self._greedy], -2)

    def mode(self) -> Tensor:
        """Return the arg-max level by level, which need not be the most probable code."""
        return torch.stack([index for _, index in self._greedy], -1)

    def chosen(self, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """Choose level by level; see `Posterior.chosen`."""
        return torch.stack([n for _, n in self._walk(self._rows, lambda x, _: pick(x))], -1)

    def choices(self, index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the integers of each level with its logits; see `Posterior.choices`."""
        known = self._walk(self._rows, partial(_known, index))
        return [(part, logits) for logits, part in known]

    def sample(self, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max level by level; see `Posterior.sample`."""
        self._drawn = self._sample(samples, generator)
        return self._drawn

    def _sample(self, samples: int, generator: Generator | None) -> Tensor:
        # Level by level for each image, as `expectation` draws without gradients.
        shape = samples, len(self._books), *self._rows.shape[1:-1], self._num_codes
        parts = []
        for rows in self._rows.split(max(1, _LOGITS // max(1, math.prod(shape)))):
            noise = gumbel_noise_like(rows.new_empty(()).expand(len(rows), *shape), generator)
            pick = partial(_gumbel_max, noise.unbind(2))
            parts.append(torch.stack([n for _, n in self._walk(rows.unsqueeze(1), pick)], -1))
        return torch.cat(parts).transpose(0, 1)

    def draw(self, generator: Generator | None = None) -> CodeDraw:
        """Draw as the estimator's layer does, level by level; see `Posterior.draw`."""
        if isinstance(self._estimator, PathwiseEstimator):
            code, index, _ = self._path(self._estimator, generator)
            return CodeDraw(self._mix(code), index)
        refuse_as_layer(self._estimator, self._rows)
        index = self.sample(1, generator)[0]
        return CodeDraw(self._mix(self._one_hot(index)), index)

    def log_prob(self, index: Tensor) -> Tensor:
        """Sum log q of each integer given those before it; see `Posterior.log_prob`."""
        return self._at(index, lambda logits, level, part: categorical_log_prob(logits, part))

    def entropy(self) -> Tensor:
        """Estimate the entropy, nats per example ``(B,)``; the class says at which draws."""
        return self._sum(lambda logits, level: categorical_entropy(logits))

    def kl(self, prior: "FactorisedPrior") -> Tensor:
        """Estimate the KL, nats per example ``(B,)``; the class says at which draws."""
        log_p = prior.log_probs.expand(len(self._books), -1)
        return self._sum(lambda logits, level: categorical_kl(logits, log_p[level]))

    def expectation(
        self,
        f: CodeFunction,
        generator: Generator | None = None,
        estimator: Estimator | None = None,
    ) -> Tensor:
        """Let the estimator take one expectation in another; see `Posterior.expectation`.

        Where gradients are off, f is evaluated at one draw, whose noise does not depend on how
        images are batched; `ExactEnumeration` sums over all codes still.
        """
        chosen = self._estimator if estimator is None else estimator
        if torch.is_grad_enabled() or isinstance(chosen, ExactEnumeration):
            return self._nest(chosen, f, None, generator)
        if isinstance(chosen, PathwiseEstimator):
            images = [self._with(rows) for rows in self._rows.split(1)]
            code = torch.cat([image._path(chosen, generator)[0] for image in images])
        else:
            code = self._one_hot(self._sample(1, generator)[0])
        return f(self._mix(code).unsqueeze(0), code.unsqueeze(0)).squeeze(0)

    def bound(self, f: CodeFunction, samples: int, generator: Generator | None = None) -> Tensor:
        """Weigh draws of the whole code; see `Posterior.bound`.

        Raises:
            ValueError: The estimator is not pathwise: the bound is no expectation of expectations.
        """
        if not isinstance(self._estimator, PathwiseEstimator):
            raise ValueError(
                f"{type(self._estimator).__name__} cannot train the bound of several draws of a "
                "residual code: use ELBO, or a pathwise estimator such as GumbelSoftmax"
            )
        check_count("samples", samples, 1)
        code, _, log_q = self.copies(samples)._path(self._estimator, generator)
        shape = samples, len(self._rows)
        return iwae_bound(
            f(self._mix(code).unflatten(0, shape), code.unflatten(0, shape)) - log_q.view(shape)
        )

    def copies(self, count: int) -> "ResidualPosterior":
        """Return the posterior of the batch repeated; see `Posterior.copies`."""
        return self._with(self._rows.expand(count, *self._rows.shape).flatten(0, 1))

    # Details

    def _with(self, rows: Tensor) -> "ResidualPosterior":
        return ResidualPosterior(rows, self._books, self._estimator, self._mix)

    def _one_hot(self, index: Tensor) -> Tensor:
        like = self._rows.new_empty(()).expand(*index.shape, self._num_codes)
        return one_hot_like(like, index)

    def _walk(
        self, rows: Tensor, pick: Callable[[Tensor, int], Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go down the levels and give the logits of each, and the integers picked by them."""
        for level, book in enumerate(self._books):
            logits = book._logits(rows)
            index = pick(logits, level)
            yield logits, index
            rows = rows - F.embedding(index, book.codebook)

    def _at(self, index: Tensor, price: Callable[[Tensor, int, Tensor], Tensor]) -> Tensor:
        """Sum over levels and positions what each has at integers ``(S, B, ...)``: ``(S, B)``."""
        axes, parts = self._rows.dim() - 2, []
        for part in index.split(max(1, _LOGITS // max(1, index[0].numel() * self._num_codes))):
            total = self._rows.new_zeros(part.shape[:2])
            known = self._walk(self._rows, partial(_known, part))
            for level, (logits, picked) in enumerate(known):
                total = total + price(logits, level, picked).flatten(-axes).sum(-1)
            parts.append(total)
        return torch.cat(parts)

    def _sum(self, price: Price) -> Tensor:
        if torch.is_grad_enabled():
            return self._nest(self._estimator, None, price, None)
        index = self.sample(1) if self._drawn is None else self._drawn
        return self._at(index, lambda logits, level, _: price(logits, level)).mean(0)

    def _nest(
        self,
        estimator: Estimator,
        f: CodeFunction | None,
        price: Price | None,
        generator: Generator | None,
    ) -> Tensor:
        """Estimate the expectation of f, and of the levels' prices, by one inside another."""
        last, batch = len(self._books) - 1, len(self._rows)

        def below(rows: Tensor, codes: list[Tensor]) -> Tensor:
            level = len(codes)
            logits = self._books[level]._logits(rows)

            def drawn(code: Tensor) -> Tensor:
                # Each draw of each example is an example of the level below.
                wide = [x.expand(len(code), *x.shape).flatten(0, 1) for x in (rows, *codes)]
                path = [*wide[1:], code.flatten(0, 1)]
                if level < last:
                    return below(self._left(wide[0], level, path[-1]), path).view(code.shape[:2])
                assert f is not None
                whole = torch.stack(path, -2)
                whole = whole.unflatten(0, (len(whole) // batch if batch else len(code), batch))
                return f(self._mix(whole), whole).reshape(code.shape[:2])

            paid = 0.0 if price is None else price(logits, level).flatten(1).sum(1)
            if f is None and level == last:
                return paid + logits.new_zeros(len(logits))
            return paid + estimator.expectation(drawn, logits, generator)

        return below(self._rows, [])

    def _left(self, rows: Tensor, level: int, code: Tensor) -> Tensor:
        """Return what the vectors of codes ``(N, *positions, K)`` leave of ``rows``."""
        with torch.autocast(rows.device.type, enabled=False):
            return rows - code @ self._books[level].codebook.to(code.dtype)

    def _path(
        self, estimator: PathwiseEstimator, generator: Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one code of each example: the code, its integers and log q, linear in the code."""
        rows, draws, log_q = self._rows, [], []
        for level, book in enumerate(self._books):
            logits = book._logits(rows)
            draws.append(estimator.sample(logits, generator))
            log_q.append(logits.log_softmax(-1))
            rows = self._left(rows, level, draws[-1].code)
        code = torch.stack([draw.code for draw in draws], -2)
        index = torch.stack([draw.index for draw in draws], -1)
        return code, index, (code * torch.stack(log_q, -2)).flatten(1).sum(-1)


def _gumbel_max(noise: Sequence[Tensor], logits: Tensor, level: int) -> Tensor:
    return gumbel_max(logits, noise[level])


def _known(index: Tensor, logits: Tensor, level: int) -> Tensor:
    return index[..., level]
