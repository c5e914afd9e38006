"""L independent categorical latents of K categories each."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvae.bottlenecks.base import Bottleneck, BottleneckOutput, Expectation
from dvae.estimators.base import Estimator, PathwiseEstimator, check_logits, gumbel_noise_like
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.functional import categorical_kl, categorical_log_prob, count_categories, gumbel_max

__all__ = ["CategoricalBottleneck"]


class CategoricalBottleneck(Bottleneck):
    """Encoder features are the logits of L categoricals; the decoder sees L one-hot codes.

    Args:
        num_latents: L, at least 1.
        num_codes: K, at least 2.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 0.6 by default.
        prior: Probabilities of the K categories, the same for all latents; uniform by default.

    Raises:
        ValueError: A value outside its range.
    """

    log_prior_probs: Tensor

    def __init__(
        self,
        num_latents: int = 20,
        num_codes: int = 10,
        estimator: Estimator | None = None,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if num_latents < 1:
            raise ValueError(f"num_latents must be >= 1; got {num_latents}")
        if num_codes < 2:
            raise ValueError(
                f"num_codes must be >= 2 (one category carries no information); got {num_codes}"
            )
        self.num_latents = num_latents
        self.num_codes = num_codes
        self.estimator = GumbelSoftmax(tau=0.6, hard=True) if estimator is None else estimator
        self.in_features = self.code_features = num_latents * num_codes
        self.counts_shape = (num_latents, num_codes)
        self.register_buffer("log_prior_probs", _log_prior(prior, num_codes))

    def forward(self, features: Tensor) -> BottleneckOutput:
        """Return the code of a pathwise estimator's layer; see `Bottleneck.forward`."""
        logits = self.logits(features)
        if self.training and not isinstance(self.estimator, PathwiseEstimator):
            raise TypeError(
                f"{type(self.estimator).__name__} gives a gradient only through expectation(f, "
                "...), not as a layer"
            )
        if isinstance(self.estimator, PathwiseEstimator):
            draw = self.estimator(logits)
            code, index = draw.code.flatten(1), draw.index
        else:
            index = logits.argmax(-1)
            code = self.embed(index)
        kl = self._kl(logits)
        return BottleneckOutput(code, index, logits, kl, torch.zeros_like(kl))

    def expectation(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        generator: Generator | None = None,
    ) -> Expectation:
        """Let the estimator evaluate f on codes; see `Bottleneck.expectation`."""
        logits = self.logits(features)
        value = self.estimator.expectation(lambda code: f(code.flatten(2)), logits, generator)
        kl = self._kl(logits)
        return Expectation(value, kl, torch.zeros_like(kl))

    def bound(
        self,
        f: Callable[[Tensor], Tensor],
        features: Tensor,
        samples: int,
        generator: Generator | None = None,
    ) -> Tensor:
        """Weigh f by prior over posterior; see `Bottleneck.bound`."""
        logits = self.logits(features)
        # Finite where a category is masked, so that 0 * -inf does not spoil the sum.
        log_q = logits.log_softmax(-1).clamp_min(torch.finfo(logits.dtype).min)

        def log_weight(code: Tensor) -> Tensor:
            # Linear in the code, so that relaxed codes have a weight too.
            return f(code.flatten(2)) + (code * (self.log_prior_probs - log_q)).sum((-2, -1))

        return self.estimator.bound(log_weight, logits, samples, generator)

    def logits(self, features: Tensor) -> Tensor:
        """Split features ``(B, L * K)`` into logits ``(B, L, K)``, at least in float32."""
        return check_logits(features.reshape(-1, *self.counts_shape))

    def kl(self, features: Tensor) -> Tensor:
        """Sum the exact KL over the latents; see `Bottleneck.kl`."""
        return self._kl(self.logits(features))

    def draw(self, features: Tensor, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max, ``(S, B, L)``; see `Bottleneck.draw`."""
        logits = self.logits(features).unsqueeze(1).expand(-1, samples, -1, -1)
        return gumbel_max(logits, gumbel_noise_like(logits, generator)).transpose(0, 1)

    def mode(self, features: Tensor) -> Tensor:
        """Return the arg-max, ``(B, L)``."""
        return self.logits(features).argmax(-1)

    def embed(self, index: Tensor) -> Tensor:
        """Write integers ``(..., L)`` as one-hot codes side by side, ``(..., L * K)``."""
        one_hot = F.one_hot(index, self.num_codes)
        return one_hot.flatten(-2).to(self.log_prior_probs.dtype)

    def log_posterior(self, features: Tensor, index: Tensor) -> Tensor:
        """Sum log q over the latents; see `Bottleneck.log_posterior`."""
        return categorical_log_prob(self.logits(features), index).sum(-1)

    def log_prior(self, index: Tensor) -> Tensor:
        """Sum log p over the latents; see `Bottleneck.log_prior`."""
        return self.log_prior_probs[index].sum(-1)

    def sample_prior(self, count: int, generator: Generator | None = None) -> Tensor:
        """Draw each latent from the prior, ``(count, L)``."""
        logits = self.log_prior_probs.expand(count, self.num_latents, -1)
        return gumbel_max(logits, gumbel_noise_like(logits, generator))

    def count(self, index: Tensor) -> Tensor:
        """Count each category of each latent, ``(L, K)``."""
        offset = torch.arange(self.num_latents, device=index.device) * self.num_codes
        return count_categories(index + offset, self.code_features).view(self.counts_shape)

    @property
    def index_shape(self) -> tuple[int, ...]:
        """One integer for each latent, ``(L,)``."""
        return (self.num_latents,)

    @property
    def num_states(self) -> int:
        """K to the power of L."""
        return int(self.num_codes**self.num_latents)

    def states(self, start: int, stop: int) -> Tensor:
        """Write the state numbers in base K, one digit a latent, ``(N, L)``."""
        number = torch.arange(start, stop, device=self.log_prior_probs.device)
        powers = self.num_codes ** torch.arange(self.num_latents, device=number.device)
        return number.unsqueeze(1) // powers % self.num_codes

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_latents={self.num_latents}, num_codes={self.num_codes}"

    def _kl(self, logits: Tensor) -> Tensor:
        return categorical_kl(logits, self.log_prior_probs).sum(-1)


def _log_prior(prior: Sequence[float] | None, num_codes: int) -> Tensor:
    if prior is None:
        return torch.full((num_codes,), -math.log(num_codes))
    if len(prior) != num_codes or min(prior) <= 0 or not math.isclose(sum(prior), 1, rel_tol=1e-4):
        raise ValueError(
            f"prior must be {num_codes} probabilities above 0 that sum to 1; got {list(prior)}"
        )
    return torch.tensor(prior, dtype=torch.float64).log().log_softmax(-1).float()
