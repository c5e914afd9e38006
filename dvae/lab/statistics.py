r"""From sums over drawn gradients to bias, variance and cosine, each with its standard error."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dvae.lab.reference import Reference

__all__ = ["GradientStats", "sum_up", "summarise"]

# Of a gradient in float32, relative to the exact one.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class GradientStats:
    r"""How gradients g of a batch compare with the exact gradient.

    The gradient of the whole batch is one vector; squared norms are then averaged over its B
    examples, so that they do not change with the batch size. Gradients are in nats per unit of
    logit, squares in nats squared. Errors are standard errors (jackknife over blocks of draws, and
    over those of the reference where that is sampled).

    What stands for the exact gradient may itself be a mean of draws, see `Reference`. Its noise is
    then taken off the squared bias, the norm and the cosine of the expected gradient; the cosine of
    a single draw is the lower for it, by about half of the noise over the squared norm.

    Attributes:
        draws: Gradients drawn, n.
        exact_norm: :math:`\|\nabla\|`.
        bias: :math:`\|\bar g - \nabla\|` of the mean of the draws. Sampling noise is part of it.
        bias_noise: What ``bias`` is on average for an unbiased estimator,
            :math:`\sqrt{\mathrm{variance} / n}`, and the reference's noise where it has some.
        bias_squared: Unbiased estimate of :math:`\|E g - \nabla\|^2`: ``bias`` squared without
            the noise. It may be negative.
        bias_squared_error: Its standard error.
        variance: :math:`E \|g - E g\|^2`, unbiased.
        variance_error: Its standard error.
        cosine: Between :math:`E g` and the exact gradient, without the noise, within [-1, 1]; NaN
            where the draws do not tell :math:`E g` from 0, or the exact gradient is 0.
        cosine_error: Its standard error.
        cosine_single: Mean cosine of a single draw, 0 for a draw of 0.
        cosine_single_error: Its standard error.
        reference_noise: Expected squared distance of the reference to the exact gradient.
    """

    draws: int
    exact_norm: float
    bias: float
    bias_noise: float
    bias_squared: float
    bias_squared_error: float
    variance: float
    variance_error: float
    cosine: float
    cosine_error: float
    cosine_single: float
    cosine_single_error: float
    reference_noise: float = 0.0

    @property
    def relative_bias(self) -> float:
        """Norm of the bias without sampling noise (0 if that was larger), over the exact norm."""
        return _over(math.sqrt(max(self.bias_squared, 0.0)), self.exact_norm)

    @property
    def relative_bias_limit(self) -> float:
        """As `relative_bias`, two standard errors further up."""
        limit = max(self.bias_squared, 0.0) + 2 * self.bias_squared_error
        return _over(math.sqrt(limit), self.exact_norm)

    @property
    def relative_variance(self) -> float:
        """Variance over the square of the exact norm."""
        return _over(self.variance, self.exact_norm**2)

    @property
    def relative_error(self) -> float:
        r"""Root of :math:`E \|g - \nabla\|^2` over the exact norm: bias and variance together."""
        squared = self.variance + max(self.bias_squared, 0.0)
        return _over(math.sqrt(squared), self.exact_norm)

    @property
    def unbiased(self) -> bool:
        """Whether no bias was found: it is within three standard errors of 0, or rounding."""
        rounding = (_ROUNDING * self.exact_norm) ** 2
        return self.bias_squared <= 3 * self.bias_squared_error + rounding

    @property
    def noiseless(self) -> bool:
        """Whether draws differ by no more than rounding."""
        return self.variance <= (_ROUNDING * self.exact_norm) ** 2


def sum_up(gradients: Tensor, exact: Tensor) -> Tensor:
    """Sum over draws what `summarise` needs of them; sums can be added up and subtracted.

    Args:
        gradients: ``(N, B, ..., K)``.
        exact: Exact gradient, ``(B, ..., K)``.

    Returns:
        ``(3 + P,)``: the number of draws, the sum of the squared norms of g minus the exact
        gradient, that of the cosines with it, and that of the P differences themselves.
    """
    # Less the exact gradient: the squares then keep their digits where the variance is small.
    deviation = (gradients - exact).flatten(1)
    target = exact.flatten().expand_as(deviation)
    cosine = torch.cosine_similarity(gradients.flatten(1), target, dim=1, eps=1e-30)
    count = exact.new_tensor(len(gradients))
    return torch.cat(
        [torch.stack([count, deviation.square().sum(), cosine.sum()]), deviation.sum(0)]
    )


def summarise(blocks: Tensor, reference: Reference) -> GradientStats:
    """Turn sums into statistics with errors.

    Args:
        blocks: Sums of at least two blocks of independent draws, ``(J, 3 + P)``; see `sum_up`.
        reference: What the draws were compared with.
    """
    exact, noise = reference.gradient, reference.noise
    total = blocks.sum(0, keepdim=True)
    variance, bias_squared, cosine, single = _estimates(total, exact, noise)[0].tolist()
    spread = _jackknife(_estimates(total - blocks, exact, noise))
    if reference.blocks is not None:
        spread = spread + _jackknife(_without_blocks(total, reference))
    errors = spread.sqrt().tolist()
    draws = int(total[0, 0].item())
    per_example = 1 / max(1, len(exact))
    mean = total[0, 3:] / draws
    return GradientStats(
        draws=draws,
        exact_norm=math.sqrt(max(exact.square().sum().item() - noise, 0.0) * per_example),
        bias=math.sqrt(mean.square().sum().item() * per_example),
        bias_noise=math.sqrt(variance / draws + noise * per_example),
        bias_squared=bias_squared,
        bias_squared_error=errors[1],
        variance=variance,
        variance_error=errors[0],
        cosine=max(-1.0, min(cosine, 1.0)) if math.isfinite(cosine) else math.nan,
        cosine_error=errors[2],
        cosine_single=single,
        cosine_single_error=errors[3],
        reference_noise=noise * per_example,
    )


def _jackknife(left_out: Tensor) -> Tensor:
    """Return the squared standard errors of estimates, from those with a block left out each."""
    count = len(left_out)
    return (left_out - left_out.mean(0)).square().sum(0) * (count - 1) / count


def _without_blocks(total: Tensor, reference: Reference) -> Tensor:
    """Estimate again with each of the reference's blocks left out: ``(J, 4)``."""
    assert reference.blocks is not None
    count = len(reference.blocks)
    found = []
    for block in reference.blocks:
        shift = (block - reference.gradient) / (count - 1)
        # What the sums would have been of differences from the other reference.
        n, deviation, along = total[:, :1], total[:, 3:], shift.flatten()
        square = total[:, 1:2] + 2 * (deviation @ along)[:, None] + n * along.square().sum()
        sums = torch.cat([n, square, total[:, 2:3], deviation + n * along], 1)
        noise = reference.noise * count / (count - 1)
        found.append(_estimates(sums, reference.gradient - shift, noise))
    return torch.cat(found)


def _estimates(sums: Tensor, exact: Tensor, reference_noise: float) -> Tensor:
    """Return variance, squared bias, cosine and single cosine for each row: ``(J, 4)``."""
    n, square, single = sums[:, :3].unbind(1)
    per_example = 1 / max(1, len(exact))
    mean = sums[:, 3:] / n.unsqueeze(1)
    distance = mean.square().sum(1)
    # For fewer than two draws there is no variance; the caller has at least two.
    variance = ((square - n * distance) / (n - 1).clamp_min(1)).clamp_min(0)
    # The mean of n draws is off by variance / n in expectation, whatever its target.
    noise = variance / n
    target = exact.flatten()
    along = (mean + target) @ target
    expected = (mean + target).square().sum(1) - noise
    norm = (target.square().sum() - reference_noise).clamp_min(0)
    cosine = along / (expected.clamp_min(0) * norm).sqrt()
    cosine = torch.where(cosine.isinf(), torch.nan, cosine)
    bias_squared = distance - noise - reference_noise
    columns = [variance * per_example, bias_squared * per_example, cosine, single / n]
    return torch.stack(columns, 1)


def _over(value: float, norm: float) -> float:
    return value / norm if norm > 0 else math.nan
