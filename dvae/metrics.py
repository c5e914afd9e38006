"""Metrics of code and images: summed over the epoch and over all processes, reduced last."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from dvae.functional import perplexity_from_counts, usage_from_counts

__all__ = ["CodebookUsage", "ImageQuality"]


class CodebookUsage(Metric):
    """How often each code is used.

    `compute` returns the counts; `perplexity` and `usage` reduce them. With counts of several
    latents ``(L, K)`` the reductions are averages over the latents of the value of each.

    Args:
        shape: Of the counts: ``(L, K)`` for L latents of K categories, ``(K,)`` for one code
            book shared by all positions.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        zeros = torch.zeros(tuple(shape), dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, counts: Tensor) -> None:
        """Add the counts of a batch.

        Args:
            counts: Integers, of the metric's shape.
        """
        self.counts += counts

    def compute(self) -> Tensor:
        """Return the counts."""
        return self.counts

    @staticmethod
    def perplexity(counts: Tensor) -> Tensor:
        """Return codes in effective use, within [1, K], averaged over latents."""
        return perplexity_from_counts(counts).mean()

    @staticmethod
    def usage(counts: Tensor) -> Tensor:
        """Return the fraction of codes used at all, averaged over latents."""
        return usage_from_counts(counts).mean()

    @staticmethod
    def dead(counts: Tensor) -> Tensor:
        """Return the number of codes that were not used at all, in all latents together."""
        return (counts == 0).sum()


class ImageQuality(Metric):
    r"""Mean squared error, PSNR and SSIM of reconstructions, each averaged over images.

    PSNR is the mean of each image's :math:`-10 \log_{10}` of its squared error, in dB, for pixels
    in [0, 1], and not that of the mean error, which is lower. SSIM has the usual Gaussian window of
    11 pixels; images smaller than that have none, and it is NaN.

    References:
        Z. Wang et al., 2004, *Image quality assessment: from error visibility to structural
        similarity* (SSIM).
    """

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(3, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, reconstruction: Tensor, image: Tensor) -> None:
        """Add the images of a batch.

        Args:
            reconstruction: Pixels in [0, 1], ``(B, C, H, W)``.
            image: The same of the originals.
        """
        error = (reconstruction.double() - image).square().flatten(1).mean(1)
        # A perfect image counts as one with an error of 1e-10: 100 dB.
        psnr = -10 * error.clamp_min(1e-10).log10()
        ssim = torch.full_like(psnr, torch.nan)
        if min(image.shape[-2:]) >= 11:
            per_image = structural_similarity_index_measure(
                reconstruction.float(), image.float(), data_range=1.0, reduction="none"
            )
            assert isinstance(per_image, Tensor)
            ssim = per_image.double().view(-1)
        self.sums += torch.stack([error.sum(), psnr.sum(), ssim.sum()])
        self.count += len(image)

    def compute(self) -> dict[str, Tensor]:
        """Return ``mse``, ``psnr`` and ``ssim``."""
        means = (self.sums / self.count).float()
        return dict(zip(("mse", "psnr", "ssim"), means, strict=True))
