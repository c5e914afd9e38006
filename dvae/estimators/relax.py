r"""RELAX: a network on the perturbed logits as the control variate."""

import math

import torch
from torch import Generator, Tensor, nn

from dvae.estimators.base import About, Estimator, Integrand, check_logits
from dvae.estimators.control_variate import controlled_expectation
from dvae.estimators.rebar import REBAR
from dvae.scalars import check_count

__all__ = ["RELAX"]

# Gumbel noise lies within [-3, 17]; what is further out is a category that never wins.
_REACH = 30.0


class RELAX(Estimator):
    r"""REINFORCE with the control variate :math:`c(z) = \eta f(\mathrm{softmax}(z/\tau)) + r(z)`.

    The network r, a perceptron with one hidden layer, starts at 0. It, :math:`\eta` and
    :math:`\tau` descend the estimator's variance as those of `REBAR` do. Unbiased whatever they
    are.

    Args:
        num_latents: L, the variables of an example, at least 1.
        num_codes: K, at least 2.
        hidden: Width of the network, at least 1.
        tau: Where the temperature starts, above 0; ``None`` leaves REBAR's term out, and then f
            need not be differentiable.

    Raises:
        ValueError: A value outside its range, or logits of another size.

    References:
        W. Grathwohl, D. Choi, Y. Wu, G. Roeder, D. Duvenaud, 2018, arXiv 1711.00123, section 3.
    """

    # Its temperature is learned together with its network.
    about = About(
        2018, "1711.00123", "unbiased", None, variants={"": {}, "network only": {"tau": None}}
    )

    def __init__(
        self, num_latents: int = 20, num_codes: int = 10, hidden: int = 64, tau: float | None = 0.5
    ) -> None:
        super().__init__()
        check_count("RELAX.num_latents", num_latents, 1)
        check_count("RELAX.num_codes", num_codes, 2)
        check_count("RELAX.hidden", hidden, 1)
        self.num_latents = num_latents
        self.num_codes = num_codes
        self.rebar = None if tau is None else REBAR(tau)
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # Smooth: the estimator needs the slope of the network, training the slope's slope.
        self.network = nn.Sequential(nn.Linear(num_latents * num_codes, hidden), nn.SiLU(), last)

    def control(self, f: Integrand, z: Tensor, logits: Tensor) -> Tensor:
        """Evaluate the control variate.

        Args:
            f: Takes codes ``(1, B, ..., K)``, returns ``(1, B)``.
            z: Perturbed log-probabilities, finite, ``(B, ..., K)``.
            logits: Logits of the draw, ``(B, ..., K)``, whose dtype the codes have.

        Returns:
            ``(B,)`` in the unit of f.
        """
        parameter = next(self.network.parameters())
        features = z.clamp(-_REACH, _REACH).flatten(1).to(parameter.dtype)
        # Not under autocast: it is small, and what it gives is taken from f in nats.
        with torch.autocast(z.device.type, enabled=False):
            learned: Tensor = self.network(features).squeeze(1).to(z.dtype)
        if self.rebar is None:
            return learned
        return learned + self.rebar.control(f, z, self.rebar.center(f, logits), logits.dtype)

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at a draw and, with REBAR's term, its relaxation; see `Estimator`."""
        check_logits(logits)
        # By the shape, so that an empty batch is checked too.
        size = math.prod(logits.shape[1:])
        if logits.shape[-1] != self.num_codes or size != self.num_latents * self.num_codes:
            raise ValueError(
                f"RELAX was built for {self.num_latents} latents of {self.num_codes} codes; got "
                f"logits of shape {tuple(logits.shape)} (batch first, codes last)"
            )
        return controlled_expectation(
            f, lambda z: self.control(f, z, logits), list(self.parameters()), logits, generator
        )
