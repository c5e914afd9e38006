r"""The tuner: measures a gradient's bias and variance over the temperature, and moves it.

On some of a batch's images the estimator's gradient in the logits is drawn twice at each of a grid
of temperatures, with common noise (`dvae.estimators.temperatures`). Averages of what is found give
the two parts of the squared error of what an optimizer follows that averages over n steps,

.. math:: Q_t = \mathrm{bias}_t^2 + \mathrm{variance}_t / n.

The temperature moves, in its logarithm, a fiftieth of the way to the highest one at which the first
part is no larger than the second; where there is none, to the least Q. Where variance falls with
the temperature, this makes the larger part least. Where it does not (ReinMax), the least Q is at no
bias, and yet a higher temperature trains better: it keeps a gradient for codes that a posterior has
all but given up, which an unbiased one weighs by their probability. So it goes as high as the noise
hides. As the learning rate falls, more steps are averaged: n grows as one over it, from the highest
rate so far.

It goes up only where the projection :math:`\langle E e_t, E r \rangle` at the temperature is clear
of noise, and down only where at some temperature the first part clearly is the larger: else nothing
is known of the error, as where all images have one code. It stays too at a step whose learning rate
is 0 or above all before it, and moves slowly after that. What codes stand for is settled in the
first thousand steps or two, and bias does harm then that no later temperature makes good: with 30
latents a thousand steps at 2.0 instead of 1.2 are still seen in the bound after ten thousand.
"""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Generator, Tensor

from dvae.bottlenecks import ResidualCodebook
from dvae.bottlenecks.processes import sum_over_processes
from dvae.callbacks.tuner_choice import choice
from dvae.callbacks.tuner_probe import Probe
from dvae.data.batch import as_batch
from dvae.data.seeding import seeded_generator
from dvae.estimators import PathwiseEstimator
from dvae.estimators.temperatures import GradientMoments, gradient_moments
from dvae.models.base import DiscreteVAE
from dvae.models.objectives import ELBO
from dvae.priors.base import FactorisedPrior
from dvae.scalars import ScalarRef
from dvae.schedules import Tuned

__all__ = ["Tuner"]

log = logging.getLogger("dvae")

# Share of the averages that a measurement keeps, and of the way in log tau that a move leaves.
_KEEP, _STAY = 0.98, 0.98
# Standard errors by which a mean is clear of 0.
_CLEAR = 3.0
# Times that n grows at most; below such a rate nothing is learned.
_SLOWEST = 1000.0
# Numbers of all temperatures' logits that are measured at once, at most.
_NUMBERS = 2**22
# Measurements that the picture shows at most.
_SHOWN = 1000

_STATE = ("stride", "count", "measured", "sums", "noise")
_RATES = ("rate", "highest")


class Tuner:
    """What a tuner has measured of one temperature of one model, and where it has moved it.

    Args:
        settings: Its settings.
        scalar: The temperature, of the bottleneck's estimator.
        model: The model.

    Raises:
        ValueError: It cannot measure: the scalar is no temperature of an estimator, or nothing but
            the prior is trained.
    """

    def __init__(self, settings: Tuned, scalar: ScalarRef, model: Any) -> None:
        estimator = getattr(getattr(model, "bottleneck", None), "estimator", None)
        self._name = scalar.path.removeprefix("bottleneck.estimator.")
        temperature = self._name.startswith("tau") and hasattr(estimator, self._name)
        known = isinstance(model, DiscreteVAE) and temperature
        if not known or not isinstance(estimator, PathwiseEstimator):
            raise ValueError(
                "Tuned measures the gradient of an estimator with a temperature; "
                f"got {scalar.path}: move that by a schedule, such as Linear or Cosine"
            )
        if isinstance(model.bottleneck, ResidualCodebook):
            raise ValueError(
                "Tuned cannot measure a ResidualCodebook, whose levels are drawn one after the "
                f"other: move {scalar.path} by a schedule, such as Linear or Cosine"
            )
        if model.objective.prior_alone:
            raise ValueError(
                f"Tuned finds no gradient to measure: {type(model.objective).__name__} trains the "
                "prior alone; use a schedule, or none"
            )
        if type(model.objective) is not ELBO:
            log.info(
                "Tuned measures the gradient of the ELBO; the objective trained here is %s.",
                type(model.objective).__name__,
            )
        self.title = "tuner" if self._name == "tau" else f"tuner_{self._name}"
        # Of several draws the gradient is the mean.
        self._draws = model.objective.samples if isinstance(model.objective, ELBO) else 1
        self.settings, self.taus = settings, settings.grid(scalar.range.low)
        self.tau = float(scalar.buffer)
        self.seconds = 0.0
        # Rows: step, temperature, and the error at each of the grid.
        self.history: list[list[float]] = []
        self._stride, self._count, self._measured = 1, 0, -1
        # Learning rate of this step, and the highest so far.
        self._rate = self._highest = 0.0
        self._sums = torch.zeros(3 * len(self.taus) + 1, dtype=torch.float64)
        # Squared standard errors: of the projection, then of bias less noise.
        self._noise = torch.zeros(2 * len(self.taus), dtype=torch.float64)
        # Of so many images of a batch one is measured, for a share of a step's work.
        self.share = self._images_for_one(estimator)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next choice depends on, and what the picture shows."""
        state = {name: getattr(self, f"_{name}") for name in (*_STATE, *_RATES)}
        state |= {"taus": list(self.taus), "history": list(self.history)}
        return state | {"tau": self.tau, "seconds": self.seconds, "title": self.title}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; of one of other temperatures, only from where it was.

        Args:
            state: State of `state_dict`.
        """
        names: tuple[str, ...] = _RATES
        self.tau = state["tau"]
        # Older ones have half of the standard errors.
        if state["taus"] == self.taus and state["noise"].shape == self._noise.shape:
            self.seconds, self.history = state["seconds"], list(state["history"])
            names = (*_STATE, *_RATES)
        for name in names:
            setattr(self, f"_{name}", state.get(name, getattr(self, f"_{name}")))

    def step(
        self,
        model: DiscreteVAE,
        batch: Any,
        step: int,
        rank: int,
        rate: float,
        given: float | None = None,
    ) -> float:
        """Measure where the step's turn has come, and return the temperature that it is taken with.

        Weights, random state, ``.grad`` and buffers of the model stay as they are.

        Args:
            model: The model.
            batch: Batch of training.
            step: Optimizer steps taken so far.
            rank: Number of this process; each measures its own batch, and all know the same then.
            rate: Learning rate of this step.
            given: Temperature of this step where something else moves it.
        """
        self.tau = self.tau if given is None else given
        rises = not rate or rate > self._highest
        self._rate, self._highest = rate, max(rate, self._highest)
        if step % self.settings.every or step == self._measured:
            return self.tau
        started, self._measured = time.perf_counter(), step
        with isolate_rng():
            noise = seeded_generator(
                "tuner", model.evaluation.seed, step, rank, device=model.device
            )
            self._add(self._moments(model, batch, noise))
        may_move = given is None and not rises and self._count
        if may_move and self.is_clear(best := self.best_tau):
            self.tau *= (best / self.tau) ** (1 - _STAY)
        if self._count and step // self.settings.every % self._stride == 0:
            errors = self.averages.error(self.n).tolist()
            self.history.append([step, self.tau, *errors])
        if len(self.history) > _SHOWN:
            self.history, self._stride = self.history[::2], 2 * self._stride
        self.seconds += time.perf_counter() - started
        return self.tau

    def begin(self, tau: float) -> None:
        """Take over the temperature of the model, where nothing has been measured yet.

        Args:
            tau: The temperature.
        """
        self.tau = self.tau if self._count else tau

    @property
    def n(self) -> float:
        """Gradients that the optimizer averages over in effect."""
        slower = self._highest / self._rate if self._rate > 0 else _SLOWEST
        slower = min(slower if self._highest > 0 else 1.0, _SLOWEST)
        return self.settings.n_eff * self._draws * slower

    @property
    def averages(self) -> GradientMoments:
        """Averages over measurements and examples, nats squared per example; ``(T,)``."""
        count, total = len(self.taus), 1 - _KEEP**self._count
        means = self._sums / total
        overlap, square, projection = means[:-1].split(count)
        return GradientMoments(overlap, square, projection, means[-1])

    def is_clear(self, tau: float) -> bool:
        """Tell whether enough is known for a move.

        Args:
            tau: Towards this temperature.
        """
        found, total = self.averages, 1 - _KEEP**self._count
        of_projection, of_excess = (_CLEAR * self._noise.sqrt() / total).chunk(2)
        if tau < self.tau:
            return bool((found.excess(self.n) > of_excess).any())
        at = int(np.argmin([abs(math.log(t / self.tau)) for t in self.taus]))
        return bool(found.projection[at] > of_projection[at])

    @property
    def best_tau(self) -> float:
        """The highest temperature whose bias the noise of n gradients hides."""
        found = self.averages
        return choice(self.taus, found.bias2.tolist(), (found.variance / self.n).tolist())

    def metrics(self) -> dict[str, float]:
        """Return what is logged, by name: nats squared per example, and seconds since the start.

        Bias and variance are those at the temperature, read off between those of the grid, and left
        out beyond it. Before anything has been measured, nothing is returned.
        """
        if not self._count:
            return {}
        found, grid, at = self.averages, np.log(self.taus), math.log(self.tau)
        values = {
            "best_tau": self.best_tau,
            "n": self.n,
            "seconds": self.seconds,
        }
        if grid[0] - 1e-6 <= at <= grid[-1] + 1e-6:
            values["bias2"] = float(np.interp(at, grid, found.bias2.numpy()))
            values["variance"] = float(np.interp(at, grid, found.variance.numpy()))
        errors = found.error(self.n).tolist()
        values |= {f"error_{t:.3g}": e for t, e in zip(self.taus, errors, strict=True)}
        return {f"{self.title}/{name}": value for name, value in values.items()}

    def _images_for_one(self, estimator: PathwiseEstimator) -> int:
        """Return how much more than for a step the work is for an image."""
        like = estimator.get_buffer(self._name)
        logits = torch.linspace(-3, 3, 256, device=like.device).view(64, 1, 4)
        seen: list[Tensor] = []

        def f(codes: Tensor) -> Tensor:
            seen.append(codes)
            return codes.sum((-2, -1))

        ends, noise = [self.taus[0], self.taus[-1]], Generator(like.device)
        gradient_moments(estimator, self._name, ends, f, logits, noise)
        # Of each image there are two codes where all temperatures share them.
        moves = len(seen[0]) > 2
        return 1 + (len(self.taus) if moves else getattr(estimator, "samples", 1))

    def _moments(self, model: DiscreteVAE, batch: Any, noise: Generator) -> GradientMoments:
        whole = as_batch(batch, model.event_shape)
        bottleneck: Any = model.bottleneck
        numbers = math.prod(bottleneck.index_shape) * bottleneck.num_codes
        most = max(1, _NUMBERS // (numbers * (1 + len(self.taus))))
        count = min(most, max(2, -(-len(whole.image) // self.share)))
        few = whole.first(count)
        image, prior = model.images_of(few, check=False), model.prior_of(few)
        beta = getattr(model.objective, "beta", 1.0)
        with model._evaluating(), torch.no_grad():
            target = model.likelihood.dequantize(image, noise)
            q = model.bottleneck(model.encoder(image), model.prior)

            def f(z: Tensor, code: Tensor) -> Tensor:
                value = model.log_px(z, target)
                if isinstance(prior, FactorisedPrior):
                    return value  # its KL has an exact gradient
                return value + beta * prior.log_prob(code)

            estimator: Any = model.bottleneck.estimator
            probe = Probe(estimator, self._name, self.taus)
            q.expectation(f, noise, probe)
        assert probe.found is not None
        return probe.found

    def _add(self, found: GradientMoments) -> None:
        """Take the means over the examples of all processes into the averages."""
        products = [found.overlap, found.square, found.projection, found.reference.unsqueeze(0)]
        rows = torch.cat([*products, found.excess(self.n)]).double()
        grid = len(self.taus)
        tested = slice(2 * grid, 3 * grid), slice(3 * grid + 1, None)
        squares = torch.cat([rows[part].square().sum(1) for part in tested])
        sums = torch.cat([rows.sum(1), squares, rows.new_tensor([rows.shape[1]])])
        sum_over_processes(sums)
        sums, number = sums.cpu(), float(sums[-1])
        if not sums.isfinite().all():
            return  # as of a batch whose step is left out
        means, squares = (sums[:-1] / number).split([len(rows), 2 * grid])
        spread = squares
        if number > 1:  # else nothing is known of it, and a mean is clear of 0 by many alone
            spread = spread - torch.cat([means[part] for part in tested]).square()
        spread = spread.clamp(min=0) / max(1.0, number - 1)
        self._count += 1
        self._sums = _KEEP * self._sums + (1 - _KEEP) * means[:-grid]
        self._noise = _KEEP**2 * self._noise + (1 - _KEEP) ** 2 * spread
