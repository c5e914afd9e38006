import pytest
import torch

from dvae.metrics import CodebookUsage


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
