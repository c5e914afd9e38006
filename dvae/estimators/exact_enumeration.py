"""The exact expectation and its true gradient, by visiting every code."""

import math

import torch
from torch import Generator, Tensor

from dvae.estimators.base import About, Estimator, Integrand, check_draw, check_logits
from dvae.estimators.score_function import ExactDraws, evaluate, score_gradient
from dvae.functional import attach_gradient, one_hot_like
from dvae.scalars import check_count

__all__ = ["ExactEnumeration"]


class ExactEnumeration(Estimator):
    r"""The sum :math:`\sum_z q(z) f(z)` over all :math:`K^L` codes of an example.

    Neither noise nor bias: the estimator that all others are measured against. f need not be
    smooth and is evaluated at all codes in one call.

    Args:
        max_states: The most codes an example may have, at least 2.

    Raises:
        ValueError: ``max_states`` is below 2, or, on a call, the number of codes above it.
    """

    about = About(source="all K^L codes", bias="exact")

    def __init__(self, max_states: int = 4096) -> None:
        super().__init__()
        check_count("ExactEnumeration.max_states", max_states, 2)
        self.max_states = max_states

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at every code; see `Estimator.expectation`. Nothing is drawn."""
        theta = check_logits(logits).detach()
        check_draw(theta, theta.argmax(-1))
        index = self._states(theta)
        like = logits.detach().unsqueeze(0).expand(index.shape[0], *logits.shape)
        code = one_hot_like(like, index)
        values = evaluate(f, code)
        probs = theta.softmax(-1)
        chosen = probs.expand(code.shape).gather(-1, index.unsqueeze(-1))
        q = chosen.flatten(2).prod(-1)
        mean = (q * values).sum(0)
        with torch.no_grad():
            # Less the mean, which changes nothing exactly and saves digits where q is peaked.
            gradient = score_gradient(ExactDraws(code, probs), q * (values - mean))
        return attach_gradient(mean.to(values.dtype), logits, gradient)

    def _states(self, theta: Tensor) -> Tensor:
        """Number all codes in base K, one digit a variable: integers ``(K^L, B, ...)``."""
        positions, codes = theta.shape[1:-1], theta.shape[-1]
        latents = math.prod(positions)
        states = codes**latents
        if states > self.max_states:
            raise ValueError(
                f"{latents} variables of {codes} categories have {codes}^{latents} = {states} "
                f"states, above max_states={self.max_states}"
            )
        number = torch.arange(states, device=theta.device).unsqueeze(1)
        powers = codes ** torch.arange(latents, device=theta.device)
        digits = (number // powers % codes).view(states, 1, *positions)
        return digits.expand(states, *theta.shape[:-1])
