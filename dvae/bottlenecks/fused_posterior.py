"""The posterior of a large code book, which is never there as a matrix of logits."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from dvae.bottlenecks.fused import fused_draw, fused_seed
from dvae.bottlenecks.posterior import CategoricalPosterior, CodeDraw, CodeFunction, Posterior
from dvae.estimators.base import Estimator
from dvae.kernels import Backend, Book, Relaxation, Sweep, sweep
from dvae.priors.base import FactorisedPrior
from dvae.priors.uniform import UniformPrior

__all__ = ["FusedPosterior"]

# Numbers of logits at once, where only the most probable code is asked for.
_LOGITS = 2**24
# Rows of a sweep for many draws: enough to fill a GPU.
_ROWS = 2**17


class FusedPosterior(Posterior):
    """What one sweep over the codes finds: a draw, its mixture, the KL, the mode, probabilities.

    The same noise is swept once: where a draw and an estimate are asked for with generators in one
    state, as validation does, the second is read off the first. Matrices are made where nothing
    else will do: for `bound`, `logits`, other estimators, and a gradient through `log_prob`.

    Args:
        grid: Features ``(B, H, W, C)`` in float32 or float64.
        rows: The same ``(B * H * W, C)`` in the dtype that the kernel multiplies in.
        book: The code book in that dtype, uniform prior.
        prior: What the KL will be asked for against; `None` is a uniform one.
        estimator: How the gradient crosses the draw.
        backend: The version of the kernel.
        plain: Makes the posterior of features ``(..., C)`` by the matrix of their logits.
    """

    def __init__(
        self,
        grid: Tensor,
        rows: Tensor,
        book: Book,
        prior: FactorisedPrior | None,
        estimator: Estimator,
        backend: Backend,
        plain: Callable[[Tensor], CategoricalPosterior],
    ) -> None:
        self._grid, self._rows, self._book, self._prior = grid, rows, book, prior
        self._estimator, self._backend, self._make_plain = estimator, backend, plain
        self._found: Sweep | None = None
        self._has_gradient = False
        self._swept: tuple[bytes, Tensor] | None = None
        self._positions = math.prod(grid.shape[1:-1])

    @cached_property
    def _plain(self) -> CategoricalPosterior:
        return self._make_plain(self._grid)

    @property
    def logits(self) -> Tensor:
        """The matrix, made when it is first asked for."""
        return self._plain.logits

    def mode(self) -> Tensor:
        """Return the arg-max; see `Posterior.mode`."""
        if self._found is not None:
            return self._found.mode.view(self._grid.shape[:-1])
        parts = self._grid.flatten(0, -2).split(max(1, _LOGITS // len(self._book.weight)))
        found = [self._make_plain(part).mode() for part in parts]
        return torch.cat(found).view(self._grid.shape[:-1])

    def sample(self, samples: int, generator: Generator | None = None) -> Tensor:
        """Draw by Gumbel-max; see `Posterior.sample`."""
        shape = samples, *self._grid.shape[:-1]
        if samples == 1:
            return self._sweep(generator).index.view(shape)
        device, images, rows = self._grid.device, len(self._grid), len(self._rows)
        seeds = fused_seed(images, self._backend, device, generator, (samples,))
        found = []
        # Many draws of all images are one sweep, over the rows again and again.
        for part in seeds.split(max(1, _ROWS // max(1, rows))):
            # Triton takes one seed, and the number of a row tells its draws apart.
            seed = part[0] if self._backend == "triton" else part.flatten()
            swept = self._draw_only(self._prior, seed, len(part))
            found.append(swept.index.view(len(part), *shape[1:]))
            self._keep(Sweep(*(getattr(swept, field.name)[:rows] for field in fields(Sweep))))
        return torch.cat(found)

    def draw(self, generator: Generator | None = None) -> CodeDraw:
        """Draw as the estimator's layer does; see `Posterior.draw`."""
        found = self._sweep(generator)
        return CodeDraw(self._z(found).squeeze(0), found.index.view(self._grid.shape[:-1]))

    def log_prob(self, index: Tensor) -> Tensor:
        """Sum log q over the positions; see `Posterior.log_prob`."""
        if torch.is_grad_enabled():
            return self._plain.log_prob(index)
        log_sum = self._any(self._prior).log_sum
        book, rows = self._book, self._rows
        values = []
        for drawn in index.flatten(1):
            logit = (book.weight[drawn] * rows).sum(-1, dtype=log_sum.dtype)
            values.append(logit if book.bias is None else logit + book.bias[drawn])
        found = torch.stack(values) - log_sum if values else log_sum.new_zeros(0, len(rows))
        return found.view(*index.shape[:2], self._positions).sum(-1)

    def entropy(self) -> Tensor:
        """Return that of a uniform distribution less the KL to it; see `Posterior.entropy`."""
        most = self._positions * math.log(len(self._book.weight))
        return most - self._per_image(self._any(None).kl)

    def kl(self, prior: FactorisedPrior) -> Tensor:
        """Sum the KL over the positions; see `Posterior.kl`."""
        return self._per_image(self._any(prior).kl)

    def expectation(
        self,
        f: CodeFunction,
        generator: Generator | None = None,
        estimator: Estimator | None = None,
    ) -> Tensor:
        """Evaluate f at one draw; see `Posterior.expectation`."""
        if estimator is not None:
            return self._plain.expectation(f, generator, estimator)
        found = self._sweep(generator)
        return f(self._z(found), found.index.view(1, *self._grid.shape[:-1])).squeeze(0)

    def bound(self, f: CodeFunction, samples: int, generator: Generator | None = None) -> Tensor:
        """Weigh draws by their matrices; see `Posterior.bound`."""
        return self._plain.bound(f, samples, generator)

    def copies(self, count: int) -> "FusedPosterior":
        """Return the posterior of the batch repeated; see `Posterior.copies`."""
        grid, rows = (x.repeat(count, *[1] * (x.dim() - 1)) for x in (self._grid, self._rows))
        prior, estimator = self._prior, self._estimator
        return FusedPosterior(
            grid, rows, self._book, prior, estimator, self._backend, self._make_plain
        )

    # Sweeps

    def _sweep(self, generator: Generator | None) -> Sweep:
        """Sweep with the noise of a generator, or look up what was found with it."""
        state = None
        if generator is not None and not torch.is_grad_enabled():
            state = generator.get_state().numpy().tobytes()
            if self._found is not None and self._swept is not None and self._swept[0] == state:
                generator.set_state(self._swept[1])
                return self._found
        book, images = self._priced(self._prior), len(self._grid)
        found = fused_draw(self._rows, images, book, self._estimator, self._backend, generator)
        self._keep(found)
        if state is not None and generator is not None:
            self._swept = state, generator.get_state()
        return found

    def _any(self, prior: FactorisedPrior | None) -> Sweep:
        """Return a sweep with the KL to a prior, whatever it drew."""
        lacks_gradient = torch.is_grad_enabled() and not self._has_gradient
        uniform = _table_of(prior) is None and _table_of(self._prior) is None
        own = uniform or prior is self._prior
        if own and self._found is not None and not lacks_gradient:
            return self._found
        found = self._draw_only(prior, 0)
        return self._keep(found) if own else found

    def _draw_only(
        self, prior: FactorisedPrior | None, seed: Tensor | int, times: int = 1
    ) -> Sweep:
        """Sweep for all but the mixture, over the rows so many times."""
        one = torch.ones((), dtype=self._grid.dtype, device=self._grid.device)
        relaxation = Relaxation(one, hard=True, noisy=False)
        rows = self._rows if times == 1 else self._rows.repeat(times, 1)
        found: Sweep = sweep(rows, self._priced(prior), relaxation, seed, self._backend)
        return found

    def _keep(self, found: Sweep) -> Sweep:
        self._found, self._has_gradient, self._swept = found, torch.is_grad_enabled(), None
        return found

    def _priced(self, prior: FactorisedPrior | None) -> Book:
        return replace(self._book, log_prior=_table_of(prior))

    def _z(self, found: Sweep) -> Tensor:
        code: Tensor = found.code.unflatten(0, self._grid.shape[:-1])
        return code.movedim(-1, 1).unsqueeze(0)

    def _per_image(self, values: Tensor) -> Tensor:
        return values.view(self._grid.shape[:-1]).flatten(1).sum(1)


def _table_of(prior: FactorisedPrior | None) -> Tensor | None:
    return None if prior is None or isinstance(prior, UniformPrior) else prior.log_probs
