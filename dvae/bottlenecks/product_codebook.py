"""Several code books at each position, each for its own part of the features: a product code."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.bottlenecks.codebook import rows_of
from dvae.bottlenecks.posterior import CategoricalPosterior
from dvae.bottlenecks.projected_codebook import ProjectedCodebook
from dvae.bottlenecks.several import SeveralCodebooks
from dvae.bottlenecks.upkeep import Upkeep
from dvae.estimators.base import Estimator
from dvae.priors.base import Prior
from dvae.scalars import check_count

__all__ = ["ProductCodebook"]


class ProductCodebook(SeveralCodebooks):
    r"""G independent categoricals at each position, each over K vectors of D / G numbers.

    The g-th sees the g-th part of the features' channels, by a projection of its own as in
    `ProjectedCodebook`, and gives the g-th part of the decoder's input. The grid of integers has an
    axis for them, ``(H, W, G)``: :math:`G \log K` nats a position from G code books of K vectors,
    where one code book would need :math:`K^G` vectors. Every estimator draws it, and every prior
    goes with it, in the order of the parts at each position. Draws are by matrices of logits.

    Args:
        num_codes: K of each code book, at least 2.
        code_dim: D, the decoder's channels, a multiple of ``parts``.
        in_features: Channels that the encoder gives, a multiple of ``parts``.
        parts: G, at least 2.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        upkeep: How each code book is started and kept alive.

    Raises:
        ValueError: A value outside its range.

    References:
        H. Jegou, M. Douze, C. Schmid, 2011, *Product quantization for nearest neighbor search*,
        section II.B.

    Example:
        >>> import torch
        >>> layer = ProductCodebook(num_codes=8, code_dim=4, in_features=6, parts=2)
        >>> q = layer(torch.randn(2, 6, 3, 3))
        >>> q.draw().z.shape, q.mode().shape, q.entropy().shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3, 3, 2]), torch.Size([2]))
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        in_features: int = 64,
        parts: int = 2,
        estimator: Estimator | None = None,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        check_count("ProductCodebook.parts", parts, 2)
        for name, value in (("code_dim", code_dim), ("in_features", in_features)):
            if value < 1 or value % parts:
                raise ValueError(f"{name} must be a multiple of parts, {parts}; got {value}")
        sizes = num_codes, code_dim // parts, in_features // parts
        books = [ProjectedCodebook(*sizes, upkeep=upkeep, kernel="plain") for _ in range(parts)]
        super().__init__(books, estimator)
        self.parts, self.in_features, self.code_features = parts, in_features, code_dim

    def forward(self, features: Tensor, prior: Prior | None = None) -> CategoricalPosterior:
        """Make the posterior of a batch; see `Bottleneck.forward`."""
        parts = enumerate(rows_of(features).chunk(self.parts, -1))
        logits = [self.tended_logits(part, rows, prior) for part, rows in parts]
        return CategoricalPosterior(torch.stack(logits, -2), self.estimator, self.mix)

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., H, W, G)``: vectors side by side, ``(..., D, H, W)``."""
        offset = torch.arange(self.parts, device=index.device) * self.num_codes
        return self._beside(F.embedding(index + offset, self.vectors().flatten(0, 1)))

    def mix(self, code: Tensor) -> Tensor:
        """Mix the vectors by codes ``(..., H, W, G, K)``: ``(..., D, H, W)``."""
        # Not under autocast: a code is worth the same drawn, mixed and looked up.
        with torch.autocast(code.device.type, enabled=False):
            vectors = (code.unsqueeze(-2) @ self.vectors().to(code.dtype)).squeeze(-2)
        return self._beside(vectors)

    def _beside(self, vectors: Tensor) -> Tensor:
        return vectors.flatten(-2).movedim(-1, -1 - self.axes)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_codes={self.num_codes}, code_dim={self.code_features}, parts={self.parts}"
