r"""Gumbel noise, the Gumbel-max draw and its relaxation by a temperature."""

from torch import Tensor

__all__ = ["gumbel_from_uniform", "gumbel_max", "gumbel_softmax"]

# `torch.rand` in float32 returns multiples of 2^-24 in [0, 1): both ends of the interval are
# moved inside by half a step or less, so that neither logarithm can return an infinity.
_LOWEST_UNIFORM = 2.0**-25
_HIGHEST_UNIFORM = 1.0 - 2.0**-24


def gumbel_from_uniform(uniform: Tensor) -> Tensor:
    r"""Turn uniform noise into standard Gumbel noise, :math:`G = -\log(-\log u)`.

    Args:
        uniform: Noise in [0, 1], any shape. Draw it in float32 or float64: in half precision
            the uniform grid is so coarse that the tails of the Gumbel density are missing.

    Returns:
        Gumbel noise of the same shape and dtype, finite everywhere (in float32 within
        [-2.86, 16.64]).

    References:
        E. J. Gumbel, *Statistical Theory of Extreme Values and Some Practical Applications*,
        1954.
    """
    clamped = uniform.clamp(_LOWEST_UNIFORM, _HIGHEST_UNIFORM)
    return clamped.log_().neg_().log_().neg_()


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
