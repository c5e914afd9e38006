"""Hands a posterior's integrand and logits to the tuner, in the place of its estimator."""

from torch import Generator, Tensor

from dvae.estimators import Estimator, PathwiseEstimator
from dvae.estimators.base import Integrand
from dvae.estimators.temperatures import GradientMoments, gradient_moments

__all__ = ["Probe"]


class Probe(Estimator):
    """Takes an estimator's place, to be handed f and the logits as that is."""

    def __init__(self, measured: PathwiseEstimator, name: str, taus: list[float]) -> None:
        super().__init__()
        self._measured, self._name, self._taus = [measured], name, taus
        self.found: GradientMoments | None = None

    def expectation(
        self, f: Integrand, logits: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Measure, in the place of an expectation; see `Estimator.expectation`."""
        assert generator is not None
        (measured,) = self._measured
        self.found = gradient_moments(measured, self._name, self._taus, f, logits, generator)
        return logits.new_zeros(len(logits))
