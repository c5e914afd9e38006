r"""Test functions of a code and logits to measure at, all drawn from a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dvae.scalars import check_choice

__all__ = ["FunctionName", "LogitsName", "RidgeFunction", "make_function", "make_logits"]

FunctionName = Literal["linear", "quadratic", "cubic", "network"]
LogitsName = Literal["uniform", "random", "peaked"]

_DIRECTIONS = 8

# Odds of e^3 : 1 for one category: it has 0.87 of the probability where K = 4.
_PEAK = 3.0

_SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda h: h,
    "quadratic": lambda h: h.square(),
    "cubic": lambda h: h.pow(3),
    "network": lambda h: (2 * h).tanh(),
}


@dataclass(frozen=True, eq=False)
class RidgeFunction:
    r"""The function :math:`f(z) = \sum_r v_r\, \phi(w_r^\top z)` of a whole code.

    :math:`\phi(h)` is :math:`h`, :math:`h^2`, :math:`h^3` or :math:`\tanh 2h`: a polynomial of a
    known degree, or a network with one hidden layer. It couples the variables, but for ``linear``.

    Attributes:
        name: Which :math:`\phi`.
        directions: :math:`w`, ``(L * K, R)``.
        weights: :math:`v`, ``(R,)``.
    """

    name: FunctionName
    directions: Tensor
    weights: Tensor

    def __call__(self, code: Tensor) -> Tensor:
        """Evaluate f.

        Args:
            code: One-hot or relaxed codes ``(S, B, L, K)``.

        Returns:
            Nats, ``(S, B)``.
        """
        projected = code.flatten(2) @ self.directions.to(code.dtype)
        return _SHAPES[self.name](projected) @ self.weights.to(code.dtype)


def make_function(name: FunctionName, latents: int, codes: int, seed: int = 0) -> RidgeFunction:
    """Draw the coefficients of a test function.

    Args:
        name: ``linear``, ``quadratic``, ``cubic`` or ``network``.
        latents: L, at least 1.
        codes: K, at least 2.
        seed: Seed of the coefficients.

    Raises:
        ValueError: There is no such function.

    Example:
        >>> f = make_function("quadratic", latents=2, codes=3)
        >>> f(torch.zeros(5, 1, 2, 3)).shape
        torch.Size([5, 1])
    """
    check_choice("function", name, FunctionName)
    generator = torch.Generator().manual_seed(seed)
    # A one-hot code picks L entries of each direction: their sum has variance 1.
    directions = torch.randn(latents * codes, _DIRECTIONS, generator=generator) / latents**0.5
    weights = torch.randn(_DIRECTIONS, generator=generator)
    return RidgeFunction(name, directions, weights)


def make_logits(name: LogitsName, latents: int, codes: int, seed: int = 0) -> Tensor:
    """Draw the logits of one example.

    Args:
        name: ``uniform`` (all 0), ``random`` (standard normal) or ``peaked`` (one category of
            each variable ahead by about 3).
        latents: L, at least 1.
        codes: K, at least 2.
        seed: Seed of the draw.

    Returns:
        ``(1, L, K)``.

    Raises:
        ValueError: There are no such logits.
    """
    check_choice("logits", name, LogitsName)
    if name == "uniform":
        return torch.zeros(1, latents, codes)
    noise = torch.randn(1, latents, codes, generator=torch.Generator().manual_seed(seed))
    if name == "random":
        return noise
    winner = torch.arange(latents).remainder(codes).view(1, latents, 1)
    return (0.3 * noise).scatter_add_(-1, winner, torch.full((1, latents, 1), _PEAK))
