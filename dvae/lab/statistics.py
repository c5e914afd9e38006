r"""From sums over drawn gradients to bias, variance and cosine, each with its standard error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["GradientStats", "Sums", "summarise"]

# Of a gradient in float32, relative to the exact one.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class GradientStats:
    r"""How gradients g of a batch compare with the exact gradient.

    The gradient of the whole batch is one vector; squared norms are then averaged over its B
    examples, so that they do not change with the batch size. Gradients are in nats per unit of
    logit, squares in nats squared. Errors are standard errors (jackknife over blocks of draws).

    Attributes:
        draws: Gradients drawn, n.
        exact_norm: :math:`\|\nabla\|`.
        bias: :math:`\|\bar g - \nabla\|` of the mean of the draws. Sampling noise is part of it.
        bias_noise: What ``bias`` is on average for an unbiased estimator,
            :math:`\sqrt{\mathrm{variance} / n}`.
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


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the draws of a block; with a leading axis, of several blocks.

    Attributes:
        count: Draws ``()``.
        deviation: Sum of g minus the exact gradient, ``(B, ..., K)``.
        square: Sum of the squared norm of that, ``()``.
        cosine: Sum of the cosine with the exact gradient, ``()``.
    """

    count: Tensor
    deviation: Tensor
    square: Tensor
    cosine: Tensor

    @classmethod
    def zero(cls, exact: Tensor) -> "Sums":
        """Start with no draws.

        Args:
            exact: Exact gradient ``(B, ..., K)``.
        """
        none = exact.new_zeros(())
        return cls(none, torch.zeros_like(exact), none, none)

    @classmethod
    def of(cls, gradients: Tensor, exact: Tensor) -> "Sums":
        """Sum over draws.

        Args:
            gradients: ``(N, B, ..., K)``.
            exact: ``(B, ..., K)``.
        """
        # Less the exact gradient: the squares then keep their digits where the variance is small.
        deviation = gradients - exact
        flat = gradients.flatten(1)
        cosine = torch.cosine_similarity(flat, exact.flatten().expand_as(flat), dim=1, eps=1e-30)
        return cls(
            exact.new_tensor(len(gradients)),
            deviation.sum(0),
            deviation.square().sum(),
            cosine.sum(),
        )

    @classmethod
    def stack(cls, blocks: Sequence["Sums"]) -> "Sums":
        """Put blocks along a leading axis."""
        return _each(lambda *parts: torch.stack(parts), *blocks)

    def total(self) -> "Sums":
        """Add up the blocks, and keep a leading axis of one."""
        return _each(lambda part: part.sum(0, keepdim=True), self)

    def __add__(self, other: "Sums") -> "Sums":
        return _each(torch.add, self, other)

    def __sub__(self, other: "Sums") -> "Sums":
        return _each(torch.sub, self, other)


def _each(operation: Callable[..., Tensor], *sums: Sums) -> Sums:
    return Sums(*(operation(*(getattr(s, field.name) for s in sums)) for field in fields(Sums)))


def summarise(blocks: Sums, exact: Tensor) -> GradientStats:
    """Turn sums into statistics with errors.

    Args:
        blocks: Sums of at least two blocks of independent draws, on the leading axis.
        exact: Exact gradient ``(B, ..., K)`` in float64.
    """
    total = blocks.total()
    values = _estimates(total, exact)[0].tolist()
    errors = _jackknife(blocks, total, exact)
    draws = int(total.count.item())
    per_example = 1 / max(1, len(exact))
    mean = total.deviation[0] / draws
    variance, bias_squared, cosine, single = values
    return GradientStats(
        draws=draws,
        exact_norm=math.sqrt(exact.square().sum().item() * per_example),
        bias=math.sqrt(mean.square().sum().item() * per_example),
        bias_noise=math.sqrt(variance / draws),
        bias_squared=bias_squared,
        bias_squared_error=errors[1],
        variance=variance,
        variance_error=errors[0],
        cosine=max(-1.0, min(cosine, 1.0)) if math.isfinite(cosine) else math.nan,
        cosine_error=errors[2],
        cosine_single=single,
        cosine_single_error=errors[3],
    )


def _estimates(sums: Sums, exact: Tensor) -> Tensor:
    """Return variance, squared bias, cosine and single cosine for each row: ``(J, 4)``."""
    n = sums.count
    per_example = 1 / max(1, len(exact))
    mean = (sums.deviation / n.view(-1, *(1,) * exact.dim())).flatten(1)
    distance = mean.square().sum(1)
    # For fewer than two draws there is no variance; the caller has at least two.
    variance = ((sums.square - n * distance) / (n - 1).clamp_min(1)).clamp_min(0)
    # The mean of n draws is off by variance / n in expectation, whatever its target.
    noise = variance / n
    target = exact.flatten()
    along = (mean + target) @ target
    expected = (mean + target).square().sum(1) - noise
    cosine = along / (expected.clamp_min(0) * target.square().sum()).sqrt()
    cosine = torch.where(cosine.isinf(), torch.nan, cosine)
    columns = [variance * per_example, (distance - noise) * per_example, cosine, sums.cosine / n]
    return torch.stack(columns, 1)


def _jackknife(blocks: Sums, total: Sums, exact: Tensor) -> list[float]:
    """Return the standard errors of `_estimates` from leaving out one block at a time."""
    left_out = _estimates(total - blocks, exact)
    count = len(left_out)
    spread = (left_out - left_out.mean(0)).square().sum(0) * (count - 1) / count
    errors: list[float] = spread.sqrt().tolist()
    return errors


def _over(value: float, norm: float) -> float:
    return value / norm if norm > 0 else math.nan
