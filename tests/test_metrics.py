"""Laws of the metrics: counts before perplexities, and the SSIM of Wang et al."""

import logging

import pytest
import torch

from dvae.metrics import CodebookUsage, ImageQuality


def test_counts_first_perplexity_last():
    # Two batches that each use one code: 2 codes over the epoch, though 1 in each batch.
    metric = CodebookUsage((4,))
    for counts in ([8, 0, 0, 0], [0, 8, 0, 0]):
        metric.update(torch.tensor(counts))
    counts = metric.compute()
    assert CodebookUsage.perplexity(counts).item() == pytest.approx(2)
    assert CodebookUsage.usage(counts).item() == 0.5


def test_latents_are_reduced_one_by_one():
    counts = torch.tensor([[5, 5, 0, 0], [3, 3, 3, 3]])
    assert CodebookUsage.perplexity(counts).item() == pytest.approx((2 + 4) / 2)
    assert CodebookUsage.usage(counts).item() == pytest.approx((0.5 + 1) / 2)


def waves(channels):
    """Return two images ``(1, C, 16, 13)`` that are formulas, in float64."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (16, 13)), indexing="ij")
    phase = [0.7 * x + 0.3 * y * (channel + 1) for channel in range(channels)]
    image = torch.stack([0.5 + 0.4 * p.sin() for p in phase])
    other = torch.stack([0.5 + 0.35 * (p + 0.4).sin() + 0.1 * (2.1 * x * y).cos() for p in phase])
    return image.unsqueeze(0), other.clamp(0, 1).unsqueeze(0)


def ssim(image, other):
    metric = ImageQuality()
    metric.update(other, image)
    return metric.compute()["ssim"].item()


# scikit-image 0.26: structural_similarity(image, other, channel_axis=0, gaussian_weights=True,
# sigma=1.5, use_sample_covariance=False, data_range=1) of `waves`.
@pytest.mark.parametrize(("channels", "expected"), [(1, 0.8521425831746), (3, 0.8664752322533)])
def test_ssim_is_that_of_scikit_image(channels, expected):
    assert ssim(*waves(channels)) == pytest.approx(expected, abs=1e-5)


def test_ssim_is_the_same_under_autocast():
    image, other = (x.float() for x in waves(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ssim(image, other)
    assert found == ssim(image, other)


def test_ssim_sees_the_windows_within_the_image_and_no_others():
    # Black against white is C1 / (1 + C1), however many windows there are.
    for size in (11, 12, 30):
        image = torch.zeros(2, 1, size, size)
        assert ssim(image, 1 - image) == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-5)
    # The one window of an image of its size weighs the same mirrored or turned.
    image, other = (x[..., :11, 1:12] for x in waves(1))
    for turn in (lambda x: x.flip(-1), lambda x: x.mT):
        assert ssim(turn(image), turn(other)) == pytest.approx(ssim(image, other), abs=1e-5)
    # And the mean over the windows of a larger one is the mean over the images cut around them.
    image, other = waves(3)
    corners = [(row, column) for row in range(6) for column in range(3)]
    cut = [torch.cat([x[..., r : r + 11, c : c + 11] for r, c in corners]) for x in (image, other)]
    assert ssim(*cut) == pytest.approx(ssim(image, other), abs=1e-5)


def test_images_smaller_than_the_window_have_no_ssim_and_that_is_said_once(caplog):
    metric = ImageQuality()
    with caplog.at_level(logging.INFO, "dvae"):
        for _ in range(2):
            metric.update(torch.zeros(2, 1, 20, 10), torch.zeros(2, 1, 20, 10))
    assert caplog.messages == ["no SSIM: images of 20x10 are smaller than its window of 11"]
    assert set(metric.compute()) == {"mse", "psnr"}


def test_a_batch_without_images_changes_no_mean():
    metric, empty = ImageQuality(), torch.zeros(0, 1, 16, 13)
    image, other = (x.float() for x in waves(1))
    metric.update(empty, empty)
    metric.update(other, image)
    before = metric.compute()
    metric.update(empty, empty)
    assert metric.compute() == before
