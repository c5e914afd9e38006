r"""Gumbel noise, the Gumbel-max draw and its relaxation by a temperature."""

import torch
from torch import Tensor

from dvae.functional.straight_through import one_hot_like

__all__ = [
    "exponential_from_bits",
    "exponential_from_uniform",
    "gumbel_from_uniform",
    "gumbel_given_max",
    "gumbel_max",
    "gumbel_softmax",
    "gumbel_softmax_given_max",
]

# Of noise of 31 bits, whose steps begin and end half a step inside of [0, 1].
_HALF_STEP = 2.0**-32

# exp of it, and of it times any exponential noise, is finite in float32.
_LARGEST_EXPONENT = 80.0


def exponential_from_uniform(uniform: Tensor) -> Tensor:
    r"""Turn uniform noise into standard exponential noise, :math:`E = -\log(1 - u)`.

    Small u become small E, which are the large Gumbel numbers that win an arg-max; a float has more
    digits there than near 1.

    Args:
        uniform: Noise in [0, 1], any shape, in float32 or float64.

    Returns:
        Noise of the same shape and dtype, positive and finite everywhere (in float32 within
        [2.33e-10, 16.64]).
    """
    # Both ends are moved inside by half a step of the noise, so that no logarithm is infinite.
    least = _HALF_STEP if uniform.dtype == torch.float32 else 2.0**-54
    u = uniform.clamp(least, 1 - torch.finfo(uniform.dtype).eps / 2)
    return _minus_log1p(u.neg_())


def exponential_from_bits(bits: Tensor) -> Tensor:
    r"""Turn 31 random bits into standard exponential noise.

    .. math:: E = -\log(1 - (i + \tfrac12)\, 2^{-31})

    `torch.rand` in float32 has 24: among 65,536 categories of equal probability those tie for the
    first place in two draws of a thousand.

    Args:
        bits: Integers i in [0, 2^31), 32-bit, any shape.

    Returns:
        Noise of that shape in float32, within [2.33e-10, 16.64].
    """
    # The factor ends below 1 what float32 rounds up to it.
    return _minus_log1p(torch.rsub(bits, -_HALF_STEP, alpha=2 * _HALF_STEP * (1 - 2.0**-24)))


def _minus_log1p(x: Tensor) -> Tensor:
    """Compute -log(1 + x) of numbers in (-1, 0), in their place."""
    if x.device.type != "cpu":
        return x.log1p_().neg_()
    # log1p takes a CPU as long as ten logarithms. The logarithm of the rounded 1 + x lacks what the
    # rounding has taken, and that difference is exact.
    rest = 1 + x
    return x.add_(1 - rest).add_(rest.log_()).neg_()


def gumbel_from_uniform(uniform: Tensor) -> Tensor:
    r"""Turn uniform noise into standard Gumbel noise, :math:`G = -\log(-\log(1 - u))`.

    Args:
        uniform: Noise in [0, 1], any shape; see `exponential_from_uniform`. Draw it in float32 or
            float64: in half precision the uniform grid is so coarse that the tails of the Gumbel
            density are missing.

    Returns:
        Gumbel noise of the same shape and dtype, finite everywhere (in float32 within
        [-2.82, 22.19]).

    References:
        E. J. Gumbel, *Statistical Theory of Extreme Values and Some Practical Applications*,
        1954.
    """
    return exponential_from_uniform(uniform).log_().neg_()


def gumbel_max(logits: Tensor, noise: Tensor, dim: int = -1) -> Tensor:
    r"""Draw exactly from a categorical, :math:`\arg\max_k (\theta_k + G_k)`.

    Args:
        logits: Unnormalised log-probabilities; ``-inf`` forbids a category.
        noise: Standard Gumbel noise, broadcastable with ``logits``.
        dim: The axis of the categories.

    Returns:
        The integer categories, the shape of ``logits`` without ``dim``.

    References:
        C. Maddison, D. Tarlow, T. Minka, 2014, arXiv 1411.0030.
    """
    return (logits + noise).argmax(dim)


def gumbel_softmax(logits: Tensor, noise: Tensor, tau: Tensor | float, dim: int = -1) -> Tensor:
    r"""Relax a categorical draw, :math:`\mathrm{softmax}((\theta + G) / \tau)`.

    Args:
        logits: Unnormalised log-probabilities; ``-inf`` forbids a category.
        noise: Standard Gumbel noise, broadcastable with ``logits``.
        tau: Temperature, above 0. Towards 0 the result is the one-hot Gumbel-max draw, towards
            infinity it is uniform.
        dim: The axis of the categories.

    Returns:
        A point of the simplex for each draw, the shape of ``logits``.

    References:
        E. Jang, S. Gu, B. Poole, 2017, arXiv 1611.01144, eq. 2; C. Maddison, A. Mnih, Y. W. Teh,
        2017, arXiv 1611.00712, eq. 10.
    """
    return ((logits + noise) / tau).softmax(dim)


def gumbel_given_max(logits: Tensor, index: Tensor, noise: Tensor) -> Tensor:
    r"""Draw the perturbed log-probabilities :math:`\log \pi + G`, given which is the largest.

    With independent :math:`E \sim \mathrm{Exp}(1)` and i the winner, position i gets
    :math:`-\log E_i` and position j the value :math:`-\log(E_j / \pi_j + E_i)`, below it.
    Averaged over :math:`i \sim \pi` this is the unconditional :math:`\log \pi + G`.

    Args:
        logits: Unnormalised log-probabilities ``(..., K)``; ``-inf`` forbids a category.
        index: The winner, integers ``(...)``.
        noise: Standard Gumbel noise :math:`-\log E`, ``(..., K)`` or with more leading axes.

    Returns:
        The perturbed log-probabilities, the shape of ``noise``; their arg-max is ``index``.

    References:
        M. Paulus, C. Maddison, A. Krause, 2021, arXiv 2010.04838, eq. 9; C. Maddison, D. Tarlow,
        T. Minka, 2014, arXiv 1411.0030.
    """
    winner = index.expand(noise.shape[:-1]).unsqueeze(-1)
    top = noise.gather(-1, winner)
    # -log(E_j / pi_j + E_i) without leaving log space: exp(-logits) overflows at 88.
    rest = torch.logaddexp(-noise - logits.log_softmax(-1), -top).neg()
    return rest.scatter(-1, winner, top.to(rest.dtype))


def gumbel_softmax_given_max(
    logits: Tensor, index: Tensor, exponential: Tensor, tau: Tensor | float
) -> Tensor:
    r"""Draw the relaxed code, given which category is the largest.

    It is the softmax of `gumbel_given_max` over :math:`\tau`, in a third of its passes:
    :math:`s_j \propto (E_i / (E_j / \pi_j + E_i))^{1/\tau}` and :math:`s_i \propto 1`.

    Args:
        logits: Unnormalised log-probabilities ``(..., K)`` in float32 or float64; ``-inf`` forbids
            a category.
        index: The winner, integers ``(...)``.
        exponential: Noise E of Exp(1), ``(..., K)`` or with more leading axes. Quickest where the
            axis of the categories is the slowest in memory.
        tau: Temperature, above 0.

    Returns:
        Points of the simplex, the shape of ``exponential``; their arg-max is ``index``.

    References:
        M. Paulus, C. Maddison, A. Krause, 2021, arXiv 2010.04838, eq. 9.
    """
    winner = one_hot_like(logits, index).bool()
    surprise = logits.log_softmax(-1).neg()
    # 1 / pi_j overflows at a surprise of 88; beyond, E_i is nothing beside E_j / pi_j, and the rest
    # can be added to the logarithm.
    inside = surprise.clamp(max=_LARGEST_EXPONENT)
    beyond = (surprise - inside).masked_fill(winner, 0.0)
    top = exponential.gather(-1, index.expand(exponential.shape[:-1]).unsqueeze(-1))
    ratio = (exponential * inside.exp().masked_fill(winner, 0.0)).add_(top)
    weight = ratio.log_().sub_(top.log()).add_(beyond).div_(-tau).exp_()
    return weight.div_(weight.sum(-1, keepdim=True))
