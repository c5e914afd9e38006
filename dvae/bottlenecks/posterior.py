"""The posterior q(z | x) of one batch: its draws, their probability, expectations under it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from dvae.estimators.base import Estimator, PathwiseEstimator, gumbel_noise_like, refuse_as_layer
from dvae.functional import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    gumbel_max,
    one_hot_like,
)

if TYPE_CHECKING:
    from dvae.priors.base import FactorisedPrior

__all__ = ["CategoricalPosterior", "CodeDraw", "CodeFunction", "PointPosterior", "Posterior"]

# Numbers of noise at once; a grid of 32x32 positions of 8,192 codes has half as many.
_NOISE = 2**24

CodeFunction = Callable[[Tensor, Tensor], Tensor]
"""A function f(z, code) to take the expectation of.

It takes decoder inputs ``(S, B, *z)`` and the codes that they stand for, and returns ``(S, B)``.
Codes are one-hot or relaxed, ``(S, B, *positions, K)`` with a gradient, or integers ``(S, B,
*positions)`` of a posterior that has no such matrix: a vector quantizer's, a fused one's.
"""


@dataclass(frozen=True)
class CodeDraw:
    """One code of each example.

    Attributes:
        z: Decoder inputs ``(B, *z)``, with the estimator's gradient.
        index: The categories drawn, integers ``(B, *positions)``.
    """

    z: Tensor
    index: Tensor


class Posterior(ABC):
    """q(z | x) of a batch of B examples; a bottleneck makes it, and it lives as long as the batch.

    Attributes:
        loss: Auxiliary loss per example, ``(B,)``; ``None`` where the bottleneck has none.
    """

    loss: Tensor | None = None

    @property
    @abstractmethod
    def logits(self) -> Tensor:
        """Unnormalised log-probabilities ``(B, *positions, K)``."""

    @abstractmethod
    def mode(self) -> Tensor:
        """Return the most probable code: integers ``(B, *positions)``."""

    def chosen(self, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """Choose the integers of a code by their logits: integers ``(B, *positions)``.

        Args:
            pick: Takes logits ``(B, *positions, K)``, returns integers ``(B, *positions)``. It is
                called once; of a residual code once a level, without the levels' axis, with the
                logits given what it has returned before.
        """
        return pick(self.logits)

    def choices(self, index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return integers ``(B, *positions)`` with the logits that `chosen` would show for them.

        All with ``(B, *positions, K)``; of a residual code a pair a level, without that axis.
        """
        return [(index, self.logits)]

    @abstractmethod
    def sample(self, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw exactly from q: integers ``(S, B, *positions)``.

        The noise of an image is one stretch of the generator's stream, so that on a CPU the draws
        of an image do not depend on how images are batched.

        Args:
            samples: Draws S of each example.
            generator: Source of the noise; the global one by default.
        """

    @abstractmethod
    def draw(self, generator: Generator | None = None) -> CodeDraw:
        """Draw what the estimator sends to the decoder in training, in either mode.

        Args:
            generator: Source of the noise; the global one by default.

        Raises:
            TypeError: A gradient is wanted of an estimator that gives one through `expectation`
                alone.
        """

    @abstractmethod
    def log_prob(self, index: Tensor) -> Tensor:
        """Return log q(z | x) of ``index (S, B, *positions)``, nats per example ``(S, B)``."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Return the exact entropy, nats per example ``(B,)``."""

    @abstractmethod
    def kl(self, prior: "FactorisedPrior") -> Tensor:
        """Return the exact KL to a prior that factorises, nats per example ``(B,)``."""

    @abstractmethod
    def expectation(
        self,
        f: CodeFunction,
        generator: Generator | None = None,
        estimator: Estimator | None = None,
    ) -> Tensor:
        """Estimate E_q[f] with the estimator's gradient, in either mode.

        Args:
            f: What to take the expectation of.
            generator: Source of the noise; the global one by default.
            estimator: How the gradient crosses the draw; the bottleneck's own by default.

        Returns:
            Estimate for each example, ``(B,)``.
        """

    @abstractmethod
    def bound(self, f: CodeFunction, samples: int, generator: Generator | None = None) -> Tensor:
        r"""Estimate :math:`\log \frac1m \sum_s \exp(f(z_s)) / q(z_s | x)`.

        With f the joint log p(x, z) it is the m-sample bound on log p(x). No auxiliary loss takes
        part.

        Args:
            f: Log-weight before q is taken off, in nats.
            samples: Draws m.
            generator: Source of the noise; the global one by default.

        Returns:
            Nats per example, ``(B,)``, with the estimator's gradient.
        """

    @abstractmethod
    def copies(self, count: int) -> "Posterior":
        """Return the posterior of the batch repeated, ``(count * B)`` examples."""


class CategoricalPosterior(Posterior):
    """Independent categoricals at the positions, with any estimator.

    Args:
        logits: Unnormalised log-probabilities ``(B, *positions, K)`` in float32 or float64.
        estimator: How the gradient crosses the draw.
        mix: Turns codes ``(..., *positions, K)``, one-hot or relaxed, into decoder inputs.
        loss: Auxiliary loss per example ``(B,)``; none by default.
    """

    def __init__(
        self,
        logits: Tensor,
        estimator: Estimator,
        mix: Callable[[Tensor], Tensor],
        loss: Tensor | None = None,
    ) -> None:
        self._logits, self._estimator, self._mix = logits, estimator, mix
        self.loss = loss

    @property
    def logits(self) -> Tensor:
        """The logits that it was made of."""
        return self._logits

    @cached_property
    def _log_q(self) -> Tensor:
        # Finite where a category is masked, so that 0 * -inf does not spoil a sum.
        return self._logits.log_softmax(-1).clamp_min(torch.finfo(self._logits.dtype).min)

    def mode(self) -> Tensor:
        """Return the arg-max."""
        return self._logits.argmax(-1)

    def sample(self, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max; see `Posterior.sample`."""
        logits = self._logits.unsqueeze(1)
        logits = logits.expand(-1, samples, *[-1] * (logits.dim() - 2))
        # In parts, which leaves the stream of noise as it is and bounds the memory.
        images = max(1, _NOISE // max(1, logits[:1].numel()))
        parts = [gumbel_max(x, gumbel_noise_like(x, generator)) for x in logits.split(images)]
        return torch.cat(parts).transpose(0, 1)

    def draw(self, generator: Generator | None = None) -> CodeDraw:
        """Draw as the estimator's layer does; see `Posterior.draw`."""
        if isinstance(self._estimator, PathwiseEstimator):
            found = self._estimator.sample(self._logits, generator)
            return CodeDraw(self._mix(found.code), found.index)
        refuse_as_layer(self._estimator, self._logits)
        index = self.sample(1, generator)[0]
        return CodeDraw(self._mix(one_hot_like(self._logits, index)), index)

    def log_prob(self, index: Tensor) -> Tensor:
        """Sum log q over the positions; see `Posterior.log_prob`."""
        return categorical_log_prob(self._logits, index).flatten(2).sum(-1)

    def entropy(self) -> Tensor:
        """Sum the entropy over the positions; see `Posterior.entropy`."""
        return categorical_entropy(self._logits).flatten(1).sum(1)

    def kl(self, prior: "FactorisedPrior") -> Tensor:
        """Sum the KL over the positions; see `Posterior.kl`."""
        return categorical_kl(self._logits, prior.log_probs).flatten(1).sum(1)

    def expectation(
        self,
        f: CodeFunction,
        generator: Generator | None = None,
        estimator: Estimator | None = None,
    ) -> Tensor:
        """Let the estimator evaluate f; see `Posterior.expectation`."""
        chosen = self._estimator if estimator is None else estimator
        return chosen.expectation(lambda code: f(self._mix(code), code), self._logits, generator)

    def bound(self, f: CodeFunction, samples: int, generator: Generator | None = None) -> Tensor:
        """Let the estimator weigh the draws; see `Posterior.bound`."""

        def log_weight(code: Tensor) -> Tensor:
            # Linear in the code, so that relaxed codes have a weight too.
            return f(self._mix(code), code) - (code * self._log_q).flatten(2).sum(-1)

        return self._estimator.bound(log_weight, self._logits, samples, generator)

    def copies(self, count: int) -> "CategoricalPosterior":
        """Return the posterior of the batch repeated; see `Posterior.copies`."""
        logits = _repeated(count, self._logits)
        loss = None if self.loss is None else _repeated(count, self.loss)
        return CategoricalPosterior(logits, self._estimator, self._mix, loss)


class PointPosterior(Posterior):
    """A posterior that is certain of one code, as that of a vector quantizer.

    Args:
        z: Decoder inputs ``(B, *z)``, through which the quantizer's gradient goes.
        index: Their code, integers ``(B, *positions)``.
        num_codes: K.
        loss: Auxiliary loss per example ``(B,)``, if there is one.
    """

    def __init__(self, z: Tensor, index: Tensor, num_codes: int, loss: Tensor | None) -> None:
        self._z, self._index, self._num_codes, self.loss = z, index, num_codes, loss

    @property
    def logits(self) -> Tensor:
        """0 at the code and ``-inf`` elsewhere."""
        logits = self._z.new_full((*self._index.shape, self._num_codes), -torch.inf)
        return logits.scatter(-1, self._index.unsqueeze(-1), 0.0)

    def mode(self) -> Tensor:
        """Return the code."""
        return self._index

    def sample(self, samples: int, generator: Generator | None = None) -> Tensor:
        """Repeat the code; nothing is drawn."""
        return self._index.unsqueeze(0).expand(samples, *self._index.shape)

    def draw(self, generator: Generator | None = None) -> CodeDraw:
        """Return the code; nothing is drawn."""
        return CodeDraw(self._z, self._index)

    def log_prob(self, index: Tensor) -> Tensor:
        """Return 0 for the code and ``-inf`` for any other; see `Posterior.log_prob`."""
        same = (index == self._index).flatten(2).all(2)
        return self._z.new_zeros(same.shape).masked_fill(~same, -torch.inf)

    def entropy(self) -> Tensor:
        """Return 0; see `Posterior.entropy`."""
        return self._z.new_zeros(len(self._z))

    def kl(self, prior: "FactorisedPrior") -> Tensor:
        """Return the code length -log p(code); see `Posterior.kl`."""
        return -prior.log_prob(self._index)

    def expectation(
        self,
        f: CodeFunction,
        generator: Generator | None = None,
        estimator: Estimator | None = None,
    ) -> Tensor:
        """Evaluate f at the code, through which its gradient goes; nothing is drawn."""
        return f(self._z.unsqueeze(0), self._index.unsqueeze(0)).squeeze(0)

    def bound(self, f: CodeFunction, samples: int, generator: Generator | None = None) -> Tensor:
        """Return f: all draws are the same and log q is 0; see `Posterior.bound`."""
        return self.expectation(f)

    def copies(self, count: int) -> "PointPosterior":
        """Return the posterior of the batch repeated; see `Posterior.copies`."""
        z, index = _repeated(count, self._z), _repeated(count, self._index)
        loss = None if self.loss is None else _repeated(count, self.loss)
        return PointPosterior(z, index, self._num_codes, loss)


def _repeated(count: int, x: Tensor) -> Tensor:
    return x.expand(count, *x.shape).flatten(0, 1)
