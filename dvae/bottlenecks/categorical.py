"""L independent categorical latents of K categories each."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.bottlenecks.base import Bottleneck, refuse_prior
from dvae.bottlenecks.posterior import CategoricalPosterior
from dvae.estimators.base import Estimator, check_logits
from dvae.estimators.gumbel_softmax import GumbelSoftmax
from dvae.functional import count_categories
from dvae.priors.base import Prior
from dvae.scalars import check_count

__all__ = ["CategoricalBottleneck"]


class CategoricalBottleneck(Bottleneck):
    """Encoder features are the logits of L categoricals; the decoder sees L one-hot codes.

    Args:
        num_latents: L, at least 1.
        num_codes: K, at least 2.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 0.6 by default.
        prior: No longer here: the prior is the model's, see `dvae.priors`.

    Raises:
        ValueError: A value outside its range.

    Example:
        >>> import torch
        >>> layer = CategoricalBottleneck(num_latents=4, num_codes=3)
        >>> q = layer(torch.randn(2, 12))
        >>> q.draw().z.shape, q.mode().shape, q.entropy().shape
        (torch.Size([2, 12]), torch.Size([2, 4]), torch.Size([2]))
    """

    one: Tensor

    def __init__(
        self,
        num_latents: int = 20,
        num_codes: int = 10,
        estimator: Estimator | None = None,
        prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        refuse_prior("bottleneck.prior", prior)
        check_count("num_latents", num_latents, 1)
        check_count("num_codes", num_codes, 2)
        self.num_latents = num_latents
        self.num_codes = num_codes
        self.estimator = GumbelSoftmax(tau=0.6, hard=True) if estimator is None else estimator
        self.in_features = self.code_features = num_latents * num_codes
        self.counts_shape = (num_latents, num_codes)
        # Knows the device and the precision of a layer without parameters.
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, features: Tensor, prior: Prior | None = None) -> CategoricalPosterior:
        """Split features ``(B, L * K)`` into logits ``(B, L, K)``, at least in float32."""
        logits = check_logits(features.reshape(-1, *self.counts_shape))
        return CategoricalPosterior(logits, self.estimator, _side_by_side)

    def embed(self, index: Tensor) -> Tensor:
        """Write integers ``(..., L)`` as one-hot codes side by side, ``(..., L * K)``."""
        return _side_by_side(F.one_hot(index, self.num_codes).to(self.one.dtype))

    def count(self, index: Tensor) -> Tensor:
        """Count each category of each latent, ``(L, K)``."""
        offset = torch.arange(self.num_latents, device=index.device) * self.num_codes
        return count_categories(index + offset, self.code_features).view(self.counts_shape)

    @property
    def index_shape(self) -> tuple[int, ...]:
        """One integer for each latent, ``(L,)``."""
        return (self.num_latents,)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_latents={self.num_latents}, num_codes={self.num_codes}"


def _side_by_side(code: Tensor) -> Tensor:
    return code.flatten(-2)
