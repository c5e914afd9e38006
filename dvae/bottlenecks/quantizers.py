"""The quantizers of vector-quantize-pytorch: VQ, its rotation trick, DiVeQ, SimVQ, FSQ, LFQ, ..."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import vector_quantize_pytorch as vq
from torch import Tensor

from dvae.bottlenecks.averaged import AveragedQuantizer
from dvae.bottlenecks.quantizer import Quantizer
from dvae.bottlenecks.tended import TendedQuantizer
from dvae.bottlenecks.upkeep import Upkeep
from dvae.scalars import Range, check_count

__all__ = ["FSQ", "LFQ", "VQ", "DiVeQ", "ResidualVQ", "RotationVQ", "SimVQ"]


class VQ(AveragedQuantizer):
    r"""The nearest of K vectors that follow the features by moving averages.

    The gradient of the code is copied to the feature (straight-through); the auxiliary loss is
    :math:`c\,\|z - \mathrm{sg}(e)\|^2` summed over positions and channels.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        decay: Decay of the moving averages at each step, in (0, 1); the paper's is 0.99.
        commitment: Weight c, at least 0; the paper's is 0.25.
        upkeep: How the vectors are started and kept in use; the paper's is
            ``Upkeep(kmeans=0, revive_after=0)``.

    Raises:
        ValueError: A value outside its range.

    References:
        A. van den Oord, O. Vinyals, K. Kavukcuoglu, 2017, arXiv 1711.00937, eq. 3 and appendix A.
    """

    _rotation = False

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        decay: float = 0.99,
        commitment: float = 0.25,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(
            *(vq.VectorQuantize, num_codes, code_dim, decay, commitment, upkeep),
            rotation_trick=self._rotation,
        )


class RotationVQ(VQ):
    """As `VQ`, with the gradient turned and scaled as the feature is on its way to the code.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 2.
        decay: Decay of the moving averages at each step, in (0, 1).
        commitment: Weight of the auxiliary loss, at least 0.
        upkeep: As in `VQ`.

    Raises:
        ValueError: A value outside its range.

    References:
        C. Fifty et al., 2025, arXiv 2410.06424, section 4.
    """

    _rotation = True


class DiVeQ(TendedQuantizer):
    r"""The nearest of K vectors, towards which a feature is moved in a direction with some noise.

    In training the code of a feature z, to which e is the nearest vector, is
    :math:`z + \mathrm{sg}(v / \|v\|)\,\|e - z\|` with
    :math:`v = e - z + \varepsilon,\ \varepsilon \sim N(0, \sigma^2 I)`: as far from z as e is, in
    nearly its direction. Its gradient reaches the vectors as well as the feature, so that there is
    no auxiliary loss. In evaluation the code is e.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        variance: Variance :math:`\sigma^2` of the noise, at least 0, in squared units of the
            features; the default is the library's. With 0 the code is e in training too.
        upkeep: How the vectors are started and kept in use.

    Raises:
        ValueError: A value outside its range.

    References:
        M. H. Vali, T. Bäckström, A. Solin, 2025, arXiv 2509.26469, figure 1.
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        variance: float = 5e-3,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        Range(0.0).check("DiVeQ.variance", variance)
        super().__init__(
            *(vq.VectorQuantize, num_codes, code_dim, upkeep),
            directional_reparam=True,
            directional_reparam_variance=variance,
            # It insists on a limit for dead codes of its own, which differs between processes and
            # which nothing tells the optimizer of. What is frozen is that, not the vectors.
            threshold_ema_dead_code=1,
            freeze_codebook=True,
        )
        for book in self._books():
            book.embed.requires_grad_(not upkeep.frozen)
        self._moved: Tensor | None = None  # booleans (1, K)

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Noise is drawn in float32, in which the library compares as well.
        code, index, _ = self.quantizer(rows.float())
        return code.to(rows.dtype), index, rows.new_zeros(())

    def _place(self, book: Any, vectors: Tensor, codes: Tensor) -> None:
        super()._place(book, vectors, codes)
        self._moved = codes.unsqueeze(0) if self._moved is None else self._moved | codes

    def take_moved(self) -> list[tuple[Tensor, Tensor]]:
        """Return the vectors that were started or revived; see `Bottleneck.take_moved`."""
        moved, self._moved = self._moved, None
        return [] if moved is None else [(book.embed, moved) for book in self._books()]


class SimVQ(Quantizer):
    """The nearest of K vectors that are a learned linear map of fixed random ones.

    All vectors move together, which keeps them in use.

    Args:
        num_codes: K, at least 2.
        code_dim: D, at least 1.
        commitment: Weight of the pull on the feature, at least 0; that on the vectors is 1.

    Raises:
        ValueError: A value outside its range.

    References:
        Y. Zhu et al., 2024, arXiv 2411.02038, eq. 6.
    """

    has_loss = True

    def __init__(self, num_codes: int = 512, code_dim: int = 64, commitment: float = 0.25) -> None:
        Range(0.0).check("SimVQ.commitment", commitment)
        super().__init__(
            *(vq.SimVQ, num_codes, code_dim),
            codebook_size=num_codes,
            input_to_quantize_commit_loss_weight=commitment,
            rotation_trick=False,
        )

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index, loss = self.quantizer(rows)
        return code, index, loss * self.code_features


class FSQ(Quantizer):
    """Each of a few channels rounded to a few levels: a code book without parameters.

    It has no auxiliary loss.

    Args:
        levels: Levels of each channel, at least 3 each; K is their product. The paper's sets near
            512 are ``[8, 8, 8]``, near 1,024 ``[8, 5, 5, 5]``.
        code_dim: D, channels before and after, between which it projects; at least 1.

    Raises:
        ValueError: A value outside its range.

    References:
        F. Mentzer et al., 2024, arXiv 2309.15505, section 3.
    """

    def __init__(self, levels: Sequence[int] = (8, 8, 8), code_dim: int = 64) -> None:
        if not levels or min(levels) < 3:
            raise ValueError(f"FSQ.levels must be numbers >= 3; got {list(levels)}")
        super().__init__(vq.FSQ, math.prod(levels), code_dim, levels=list(levels))

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index = self.quantizer(rows)
        # NaN is any integer, and a place out of bounds would end all work on a GPU.
        return code, index.clamp(0, self.num_codes - 1), rows.new_zeros(())

    def _look_up(self, index: Tensor) -> Tensor:
        # Not by `indices_to_codes`, which divides integers: always in float32.
        levels: Tensor = self.quantizer.implicit_codebook  # type: ignore[assignment]
        codes: Tensor = self.quantizer.project_out(levels[index])  # type: ignore[operator]
        return codes


class LFQ(Quantizer):
    r"""The signs of :math:`\log_2 K` channels.

    The auxiliary loss is the entropy of a position's code less that of the batch's mean code
    distribution, in nats per position, summed over positions.

    Args:
        num_codes: K, a power of 2, at least 2.
        code_dim: D, channels before and after, between which it projects; at least 1.
        entropy: Weight of the auxiliary loss, at least 0; the paper's is 0.1.

    Raises:
        ValueError: A value outside its range.

    References:
        L. Yu et al., 2024, arXiv 2310.05737, eq. 4 to 6.
    """

    def __init__(self, num_codes: int = 512, code_dim: int = 64, entropy: float = 0.1) -> None:
        if num_codes < 2 or num_codes & (num_codes - 1):
            raise ValueError(f"LFQ.num_codes must be a power of 2; got {num_codes}")
        Range(0.0).check("LFQ.entropy", entropy)
        super().__init__(
            *(vq.LFQ, num_codes, code_dim),
            codebook_size=num_codes,
            entropy_loss_weight=entropy,
            # The default is one module shared by all instances, and so is its training mode.
            straight_through_activation=torch.nn.Identity(),
        )
        self.has_loss = entropy > 0

    def _quantize(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, index, loss = self.quantizer(rows)
        return code, index, loss


class ResidualVQ(AveragedQuantizer):
    """Several of `VQ`, each for what those before it have left over; their vectors are added.

    The grid of integers has an axis for them, ``(H, W, depth)``.

    Args:
        num_codes: K of each, at least 2.
        code_dim: D, at least 1.
        depth: How many, at least 2.
        decay: Decay of the moving averages at each step, in (0, 1).
        commitment: Weight of the auxiliary losses, at least 0.
        upkeep: As in `VQ`.

    Raises:
        ValueError: A value outside its range.

    References:
        N. Zeghidour et al., 2021, arXiv 2107.03312, section III.C.
    """

    def __init__(
        self,
        num_codes: int = 512,
        code_dim: int = 64,
        depth: int = 4,
        decay: float = 0.99,
        commitment: float = 0.25,
        upkeep: Upkeep = Upkeep(),  # noqa: B008 (frozen)
    ) -> None:
        check_count("ResidualVQ.depth", depth, 2)
        super().__init__(
            *(vq.ResidualVQ, num_codes, code_dim, decay, commitment, upkeep, depth),
            num_quantizers=depth,
            rotation_trick=False,
        )

    def vectors(self) -> Tensor:
        """Return the vectors of each of the code books, ``(depth, K, D)``."""
        books: Tensor = self.quantizer.codebooks  # type: ignore[assignment]
        return books
