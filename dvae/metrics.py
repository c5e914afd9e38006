"""Metrics of codes and events: summed over the epoch and over all processes, reduced last."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from dvae.functional import perplexity_from_counts, usage_from_counts

__all__ = ["CodebookUsage", "EventQuality", "ImageQuality", "psnr"]

log = logging.getLogger("dvae")

# The window of SSIM and the standard deviation of its weights (Wang et al. 2004, section III.C).
_WINDOW = 11
_SIGMA = 1.5


class CodebookUsage(Metric):
    """How often each code is used.

    `compute` returns the counts; `perplexity` and `usage` reduce them. With counts of several
    latents ``(L, K)`` the reductions are averages over the latents of the value of each.

    Args:
        shape: Shape of the counts: ``(L, K)`` for L latents of K categories, ``(K,)`` for one code
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
    in [0, 1], and not that of the mean error, which is lower. SSIM is the paper's: the
    mean over all Gaussian windows of 11 pixels (standard deviation 1.5) that lie within the image.
    Images smaller than a window have none: that is said once, and `compute` leaves it out.

    References:
        Z. Wang et al., 2004, *Image quality assessment: from error visibility to structural
        similarity* (SSIM, section III.C).
    """

    full_state_update = False
    sums: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(3, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self._has_ssim = True

    def update(self, reconstruction: Tensor, image: Tensor) -> None:
        """Add the images of a batch.

        Args:
            reconstruction: Pixels in [0, 1], ``(B, C, H, W)``.
            image: The same of the originals.
        """
        error = _mean_square(reconstruction, image)
        ssim = torch.zeros_like(error)
        if min(image.shape[-2:]) >= _WINDOW:
            ssim = _ssim(reconstruction.float(), image.float()).double()
        elif self._has_ssim:
            self._has_ssim = False
            size = "x".join(str(n) for n in image.shape[-2:])
            log.info("no SSIM: images of %s are smaller than its window of %d", size, _WINDOW)
        self.sums += torch.stack([error.sum(), _decibel(error).sum(), ssim.sum()])
        self.count += len(image)

    def compute(self) -> dict[str, Tensor]:
        """Return ``mse``, ``psnr`` and, of images as large as its window, ``ssim``."""
        means = (self.sums / self.count).float()
        found = dict(zip(("mse", "psnr", "ssim"), means, strict=True))
        return found if self._has_ssim else {name: found[name] for name in ("mse", "psnr")}


class EventQuality(Metric):
    """How near reconstructions of events that are not images come, averaged over all examples.

    Of real values the mean squared error, of categories the fraction that are the right ones.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        self._name = "mse"

    def update(self, reconstruction: Tensor, event: Tensor) -> None:
        """Add the events of a batch.

        Args:
            reconstruction: Real values, or categories as integers, ``(B, ...)``.
            event: The same of the originals.
        """
        real = event.is_floating_point()
        self._name = "mse" if real else "accuracy"
        found = (reconstruction.double() - event).square() if real else reconstruction == event
        self.total += found.double().flatten(1).mean(1).sum()
        self.count += len(event)

    def compute(self) -> dict[str, Tensor]:
        """Return ``mse`` of real values, or ``accuracy`` of categories."""
        return {self._name: (self.total / self.count).float()}


def psnr(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Return the PSNR of each image, dB, ``(B,)``; see `ImageQuality`.

    Args:
        reconstruction: Pixels in [0, 1], ``(B, C, H, W)``.
        image: The same of the originals.
    """
    return _decibel(_mean_square(reconstruction, image))


def _mean_square(reconstruction: Tensor, image: Tensor) -> Tensor:
    return (reconstruction.double() - image).square().flatten(1).mean(1)


def _decibel(error: Tensor) -> Tensor:
    # A perfect image counts as one with an error of 1e-10: 100 dB.
    return -10 * error.clamp_min(1e-10).log10()


def _ssim(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Compute the SSIM of images ``(B, C, H, W)`` in float32, each ``(B,)``."""
    if not len(image):
        return image.new_zeros(0)
    # Not under autocast: variances are differences of means of squares.
    with torch.autocast(image.device.type, enabled=False):
        _, windows = structural_similarity_index_measure(
            *(reconstruction, image),
            data_range=1.0,
            sigma=_SIGMA,
            reduction="none",
            return_full_image=True,
        )
    # A value for each pixel. Near the edges they are of windows that reach into mirrored pixels,
    # where the two images are more alike than anywhere within.
    edge = _WINDOW // 2
    return windows[..., edge:-edge, edge:-edge].flatten(1).mean(1)
