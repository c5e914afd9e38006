r"""What each of several temperatures does to an estimator's gradient, from two draws."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dvae.estimators.base import Integrand, PathwiseEstimator
from dvae.estimators.zgr import ZGR

__all__ = ["GradientMoments", "gradient_moments"]


@dataclass(frozen=True)
class GradientMoments:
    r"""Products of gradients in the logits, in nats squared, for each of T temperatures.

    e is the estimator's gradient, r the reference's, and the indices are two independent draws, so
    that each product has the expectation that it stands for.

    Attributes:
        overlap: :math:`\langle e_1, e_2 \rangle`, which estimates :math:`|E e|^2`; ``(T, ...)``.
        square: The mean of :math:`|e|^2` over both draws, ``(T, ...)``.
        projection: The mean of :math:`\langle e_1, r_2 \rangle` and
            :math:`\langle e_2, r_1 \rangle`, ``(T, ...)``.
        reference: :math:`\langle r_1, r_2 \rangle`, which estimates :math:`|E r|^2`; ``(...)``.
    """

    overlap: Tensor
    square: Tensor
    projection: Tensor
    reference: Tensor

    @property
    def bias2(self) -> Tensor:
        r"""Estimate :math:`|E e - E r|^2`, ``(T, ...)``: unbiased, so it may be negative."""
        return self.overlap - 2 * self.projection + self.reference

    @property
    def variance(self) -> Tensor:
        r"""Estimate :math:`E |e - E e|^2`, ``(T, ...)``: unbiased too."""
        return self.square - self.overlap

    def error(self, n: float) -> Tensor:
        """Estimate the squared error of a mean of n gradients, ``(T, ...)``."""
        return self.bias2 + self.variance / n

    def excess(self, n: float) -> Tensor:
        """Estimate the squared bias less the variance of a mean of n gradients, ``(T, ...)``."""
        return self.bias2 - self.variance / n


@torch.enable_grad()
def gradient_moments(
    estimator: PathwiseEstimator,
    name: str,
    taus: Sequence[float],
    f: Integrand,
    logits: Tensor,
    generator: Generator,
    reference: PathwiseEstimator | None = None,
) -> GradientMoments:
    """Draw the gradient of each example's E[f] twice at every temperature, with common noise.

    Where the temperature does not change the code that goes forward, as in all of the
    straight-through family, f is evaluated at two codes of each example however many temperatures
    there are; elsewhere at two for each of them.

    Args:
        estimator: What is measured; it stays as it is.
        name: Name of its buffer with the temperature.
        taus: T temperatures.
        f: Takes codes ``(S, B, ..., K)``, returns nats ``(S, B)``.
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        generator: Source of the noise.
        reference: What bias is measured against; by default `ZGR`, which is exact where f is
            quadratic in the code.

    Returns:
        The moments of each example, ``(T, B)`` and ``(B,)``.
    """
    reference, still = reference or ZGR(), copy.deepcopy(estimator)
    twice = torch.cat([logits.detach()] * 2)  # both draws at once
    leaves = [twice.clone().requires_grad_() for _ in range(1 + len(taus))]
    start = generator.get_state()
    codes = [reference.sample(leaves[0], generator).code]
    for tau, leaf in zip(taus, leaves[1:], strict=True):
        generator.set_state(start)
        setattr(still, name, logits.new_tensor(tau))  # not in place: others' graphs have theirs
        codes.append(still.sample(leaf, generator).code)
    same = all(torch.equal(code, codes[0]) for code in codes)
    points = torch.stack(codes[:1] if same else codes).detach().requires_grad_()
    total = f(points.unflatten(1, (2, -1)).flatten(0, 1)).sum()
    slopes = torch.autograd.grad(total, points)[0].expand(len(codes), *twice.shape)
    grads = torch.stack(torch.autograd.grad(codes, leaves, slopes.unbind()))
    first, second = grads.flatten(2).chunk(2, dim=1)
    (r1, e1), (r2, e2) = ((part[0], part[1:]) for part in (first, second))
    return GradientMoments(
        overlap=(e1 * e2).sum(-1),
        square=(e1.square() + e2.square()).sum(-1) / 2,
        projection=(e1 * r2 + e2 * r1).sum(-1) / 2,
        reference=(r1 * r2).sum(-1),
    )
