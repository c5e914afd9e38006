"""What a bottleneck is: encoder features in, a code for the decoder and what it cost out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from dvae.stepwise import Stepwise

__all__ = ["Bottleneck", "BottleneckOutput", "Expectation"]


@dataclass(frozen=True)
class BottleneckOutput:
    """A code and what it cost.

    Attributes:
        code: Input of the decoder, ``(B, *code)``.
        index: The categories, integers ``(B, ...)``.
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        kl: Exact categorical KL to the prior, nats per example, ``(B,)``.
        loss: Auxiliary loss per example, ``(B,)``; zero where the bottleneck has none.
    """

    code: Tensor
    index: Tensor
    logits: Tensor
    kl: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Expectation:
    """An expectation under the posterior and what the code cost.

    Attributes:
        value: Estimate of E_q[f], ``(B,)``, with the estimator's gradient.
        kl: Exact categorical KL to the prior, nats per example, ``(B,)``.
        loss: Auxiliary loss per example, ``(B,)``; zero where the bottleneck has none.
    """

    value: Tensor
    kl: Tensor
    loss: Tensor


class Bottleneck(Stepwise, nn.Module, ABC):
    """A discrete posterior q(z | features) with its prior p(z).

    Attributes:
        in_features: Features (or channels of a grid) that it wants from the encoder.
        code_features: Features (or channels of a grid) that it gives to the decoder.
        counts_shape: Shape of the usage counts, ``(L, K)`` or ``(K,)``.
        has_posterior: Whether q gives probability to more than one code. Where it does not, its
            entropy and log q(z | x) say nothing.
        has_loss: Whether an auxiliary loss comes with the code, which training has to add.
    """

    in_features: int
    code_features: int
    counts_shape: tuple[int, ...]
    has_posterior: bool = True
    has_loss: bool = False

    @abstractmethod
    def forward(self, features: Tensor) -> BottleneckOutput:
        """Return a code: drawn by the estimator in training, the arg-max in evaluation.

        Args:
            features: Encoder output ``(B, in_features, ...)``.
        """

    @abstractmethod
    def expectation(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        generator: Generator | None = None,
    ) -> Expectation:
        """Estimate E_q[f(code)] with the estimator's gradient, in either mode.

        Args:
            f: Takes decoder inputs ``(S, B, *code)``, returns ``(S, B)``.
            features: Encoder output ``(B, in_features, ...)``.
            generator: Where the noise comes from; the global one by default.
        """

    @abstractmethod
    def bound(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        samples: int,
        generator: Generator | None = None,
    ) -> Tensor:
        """Estimate the m-sample bound on log p(x), with the estimator's gradient.

        Args:
            f: log p(x | z): takes decoder inputs ``(S, B, *code)``, returns ``(S, B)``.
            features: Encoder output ``(B, in_features, ...)``.
            samples: Draws m.
            generator: Where the noise comes from; the global one by default.

        Returns:
            Nats per example, ``(B,)``.
        """

    @abstractmethod
    def kl(self, features: Tensor) -> Tensor:
        """Return the exact KL to the prior, nats per example ``(B,)``."""

    @abstractmethod
    def draw(self, features: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw exactly from q: integers ``(S, B, ...)``.

        The noise of an image is one stretch of the generator's stream, so that on CPU the draws
        of an image do not depend on how images are batched.
        """

    @abstractmethod
    def mode(self, features: Tensor) -> Tensor:
        """Return the most probable code: integers ``(B, ...)``."""

    @abstractmethod
    def embed(self, index: Tensor) -> Tensor:
        """Turn integers ``(..., *positions)`` into the decoder's input ``(..., *code)``."""

    @abstractmethod
    def log_posterior(self, features: Tensor, index: Tensor) -> Tensor:
        """Return log q(z | features) of ``index (S, B, ...)``, nats per example ``(S, B)``."""

    @abstractmethod
    def log_prior(self, index: Tensor) -> Tensor:
        """Return log p(z), nats per example: ``index (N, ...)`` to ``(N,)``."""

    @abstractmethod
    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw codes from the prior: integers ``(count, ...)``."""

    @abstractmethod
    def count(self, index: Tensor) -> Tensor:
        """Count the use of each code in ``index (B, ...)``: integers of ``counts_shape``."""

    @property
    @abstractmethod
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image."""

    @property
    @abstractmethod
    def num_states(self) -> int | None:
        """Number of codes of a whole image, or ``None`` where it depends on the image size."""

    @abstractmethod
    def states(self, start: int, stop: int) -> Tensor:
        """Return the states numbered ``start`` to ``stop - 1``: integers ``(N, ...)``."""

    def take_moved(self) -> list[tuple[Tensor, Tensor]]:
        """Return the parameters that were written to in training since this was last asked.

        What an optimizer remembers of their gradients belongs to the old values, and has to be
        forgotten before its next step.

        Returns:
            Pairs of a parameter and booleans over its first axis: which rows are new. None by
            default.
        """
        return []
