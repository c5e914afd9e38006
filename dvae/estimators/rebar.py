r"""REBAR: f itself on the relaxed draw as the control variate."""

import math

import torch
from torch import Generator, Tensor, nn

from dvae.estimators.base import TEMPERATURE, About, Estimator, Integrand, check_logits
from dvae.estimators.control_variate import controlled_expectation
from dvae.estimators.score_function import evaluate

__all__ = ["REBAR"]

# Between what the temperature stays, if it starts there.
_COLDEST, _HOTTEST = 1e-4, 1e4


class REBAR(Estimator):
    r"""REINFORCE with f itself, at a relaxed draw, as its control variate.

    .. math:: c(z) = m + \eta \left( f(\mathrm{softmax}(z / \tau)) - m \right)

    m is f at the probabilities themselves, without noise and taken as a number. The paper has none:
    then :math:`\eta` has to cancel what f is for all codes alike, hundreds of nats of a likelihood,
    which holds it at 1 and makes its own gradient some ten times as noisy. It costs one more call.

    Unbiased for every :math:`\eta` and :math:`\tau`, which are parameters and descend the
    estimator's variance, each example by the size of its weight in the loss, whatever the sign:
    hand them to the same optimizer as the model's (an adaptive one, since the unit of the variance
    is the square of that of f), and clip the norm of their gradients apart from the model's, as
    `DiscreteVAE` does. f must be differentiable twice in the code and is called at relaxed codes
    too, which train none of its parameters.

    Args:
        tau: Where the temperature starts, above 0; it stays between 1e-4 and 1e4, or that start.

    Raises:
        ValueError: ``tau`` is not a number above 0.

    References:
        G. Tucker, A. Mnih, C. Maddison, D. Lawson, J. Sohl-Dickstein, 2017, arXiv 1703.07370.
    """

    about = About(2017, "1703.07370", "unbiased")

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        TEMPERATURE.check("tau", tau)
        self._ends = math.log(min(tau, _COLDEST)), math.log(max(tau, _HOTTEST))
        self.log_tau = nn.Parameter(torch.tensor(math.log(tau)))
        self.eta = nn.Parameter(torch.ones(()))

    @property
    def tau(self) -> Tensor:
        """The temperature, within what its gradient is finite at, whatever the optimizer does."""
        # An optimizer that is not adaptive goes too far: the gradient's unit is that of f squared.
        return self.log_tau.clamp(*self._ends).exp()

    @torch.no_grad()
    def center(self, f: Integrand, logits: Tensor) -> Tensor:
        """Evaluate m, ``(B,)``, from logits ``(B, ..., K)``; f as in `control`."""
        probs = check_logits(logits).softmax(-1).to(logits.dtype)
        return evaluate(f, probs.unsqueeze(0)).squeeze(0)

    def control(self, f: Integrand, z: Tensor, center: Tensor, dtype: torch.dtype) -> Tensor:
        """Evaluate the control variate.

        Args:
            f: Takes codes ``(1, B, ..., K)``, returns ``(1, B)``.
            z: Perturbed log-probabilities, finite, ``(B, ..., K)``.
            center: m, ``(B,)``, in the unit of f.
            dtype: Dtype of the codes.

        Returns:
            ``(B,)`` in the unit of f.
        """
        relaxed = (z / self.tau).softmax(-1).to(dtype)
        value = evaluate(f, relaxed.unsqueeze(0)).squeeze(0).to(z.dtype)
        center = center.to(z.dtype)
        return center + self.eta * (value - center)

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Evaluate f at a draw and at its relaxation; see `Estimator.expectation`."""
        return controlled_expectation(
            f,
            lambda z: self.control(f, z, self.center(f, logits), logits.dtype),
            [self.log_tau, self.eta],
            logits,
            generator,
        )
