"""Several code books at each position, each for what those before it left over: a residual code."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dvae.bottlenecks.codebook import rows_of
from dvae.bottlenecks.distance_codebook import DistanceCodebook
from dvae.bottlenecks.residual_posterior import ResidualPosterior
from dvae.bottlenecks.several import SeveralCodebooks
from dvae.bottlenecks.upkeep import Upkeep
from dvae.estimators.base import Estimator, draw_index
from dvae.priors.base import Prior
from dvae.scalars import check_count

__all__ = ["ResidualCodebook"]


class ResidualCodebook(SeveralCodebooks):
    r"""L drawn vectors at each position that are added, each for what those before it left over.

    .. math:: q(z_l = k \mid x, z_{<l}) \propto \exp\Big(
        -\big\| h(x) - \textstyle\sum_{j<l} e_{j,z_j} - e_{l,k} \big\|^2 / 2\sigma_l^2 \Big)

    The levels are those of `DistanceCodebook`, each with K vectors and a :math:`\sigma_l^2` of its
    own, without the auxiliary loss. The grid of integers has an axis for them, ``(H, W, L)``. In
    contrast to `ProductCodebook` they depend on one another, and q has no closed KL: that is
    estimated without bias, exact given the draws of the levels before. Every prior goes with it and
    every estimator draws it; `RLOO` and others of S draws decode :math:`S^L` codes for each image,
    and the bound of several draws (`IWAE`) wants a pathwise one. A level starts from, and is kept
    in use by, what draws from those before it leave.

    Args:
        num_codes: K of each level, at least 2.
        code_dim: D, also the channels that the encoder gives, at least 1.
        depth: L, at least 1.
        estimator: How the gradient crosses the draw; straight-through Gumbel-softmax at
            temperature 1 by default.
        upkeep: How each code book is started and kept alive.

    Raises:
        ValueError: A value outside its range.

    References:
        Y. Takida et al., 2024, arXiv 2401.00365 (RSQ-VAE, which has an auxiliary loss besides).

    Example:
        >>> import torch
        >>> layer = ResidualCodebook(num_codes=8, code_dim=4, depth=2)
        >>> q = layer(torch.randn(2, 4, 3, 3))
        >>> q.draw().z.shape, q.mode().shape, q.entropy().shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3, 3, 2]), torch.Size([2]))
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        depth: int = 2,
        estimator: Estimator | None = None,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        check_count("ResidualCodebook.depth", depth, 1)
        make = partial(DistanceCodebook, num_codes, code_dim, commitment=0.0, upkeep=upkeep)
        books = [make() for _ in range(depth)]
        super().__init__(books, estimator)
        self.in_features = self.code_features = code_dim

    def forward(self, features: Tensor, prior: Prior | None = None) -> ResidualPosterior:
        """Make the posterior of a batch; see `Bottleneck.forward`."""
        rows = rows_of(features)
        if self.training:
            self._tend(rows, prior)
        return ResidualPosterior(rows, self._each(), self.estimator, self.mix)

    @torch.no_grad()
    def _tend(self, rows: Tensor, prior: Prior | None) -> None:
        for level, book in enumerate(self._each()):
            logits = self.tended_logits(level, rows, prior)
            if level + 1 < len(self.books):
                rows = rows - F.embedding(draw_index(logits), book.codebook)

    def embed(self, index: Tensor) -> Tensor:
        """Look up integers ``(..., H, W, L)`` and add: vectors ``(..., D, H, W)``."""
        books, levels = self._each(), index.unbind(-1)
        total = F.embedding(levels[0], books[0].codebook)
        for book, level in zip(books[1:], levels[1:], strict=True):
            total = total + F.embedding(level, book.codebook)
        return total.movedim(-1, -1 - self.axes)

    def mix(self, code: Tensor) -> Tensor:
        """Mix the vectors by codes ``(..., H, W, L, K)`` and add: ``(..., D, H, W)``."""
        books, levels = self._each(), code.unbind(-2)
        # Not under autocast: a code is worth the same drawn, mixed and looked up.
        with torch.autocast(code.device.type, enabled=False):
            total = levels[0] @ books[0].codebook.to(code.dtype)
            for book, level in zip(books[1:], levels[1:], strict=True):
                total = total + level @ book.codebook.to(code.dtype)
        return total.movedim(-1, -1 - self.axes)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"num_codes={self.num_codes}, code_dim={self.code_features}, depth={len(self.books)}"
